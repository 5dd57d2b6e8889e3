-- Tasks that agents give to agents: a thread that is the answer to one tool call of a dispatch of
-- its parent thread. Workers make them, and no other threads; one per call, however often the call
-- is made again. That parent and child are of one house is said by the parent's foreign key.

alter table threads
    add column parent_call_id text
        constraint threads_parent_call_fits check (char_length(parent_call_id) between 1 and 200),
    add constraint threads_parent_call_has_dispatch
        check (parent_call_id is null or parent_dispatch_id is not null);
create unique index threads_parent_call
    on threads (parent_thread_id, parent_dispatch_id, parent_call_id)
    where parent_call_id is not null;

grant insert (id, house_id, parent_thread_id, parent_dispatch_id, parent_call_id, name, tags,
              environment_id, status, config)
    on threads to arbe_worker;
create policy worker_inserts on threads for insert to arbe_worker
    with check (parent_call_id is not null and status = 'idle');

-- A task that nobody waits for any more is cancelled as a thread, with all below it.
create policy worker_inserts_for_tasks on cancellations for insert to arbe_worker
    with check (dispatch_id is null and cascade and exists (
        select from threads where threads.id = cancellations.thread_id
            and threads.parent_call_id is not null
    ));
