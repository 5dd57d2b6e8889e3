-- What becomes of an entry whose agent is busy, where the entry does not say so itself: the
-- thread's word, else the house's, else `enqueue`. Any member sets a thread's, the owner the house's.

alter table houses add column when_busy text constraint houses_when_busy_known check
    (when_busy in ('enqueue', 'reject', 'interrupt', 'rollback', 'steer', 'write'));
alter table threads add column when_busy text constraint threads_when_busy_known check
    (when_busy in ('enqueue', 'reject', 'interrupt', 'rollback', 'steer', 'write'));

grant update (when_busy) on houses to arbe_api;
grant insert (when_busy), update (when_busy) on threads to arbe_api;
