-- The end of a thread's life. A key outlives the thread it was made for: when that has expired,
-- the key moves to a fresh one. A sweep removes what has expired, and nothing else.
grant update (key) on threads to arbe_api;
grant delete on threads to arbe_worker;
create policy worker_deletes on threads for delete to arbe_worker
    using (expires_at <= now() and status <> 'running');
