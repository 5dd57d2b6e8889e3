-- Cancelling what hangs together: which dispatch a sub-job works for, and the outbox of cancels
-- that reach more than one dispatch. A row without done_at is owed: whoever holds it goes on.

alter table threads
    add column parent_dispatch_id text collate "C"
        constraint threads_parent_dispatch_fits
        check (parent_dispatch_id ~ '^\d{15}_\d{10}\.\d{1,3}$'),
    add constraint threads_parent_dispatch_has_thread
        check (parent_dispatch_id is null or parent_thread_id is not null);
create index threads_parent_dispatch on threads (parent_thread_id, parent_dispatch_id)
    where parent_dispatch_id is not null;
grant insert (parent_dispatch_id) on threads to arbe_api;

-- thread_id null: the whole house, or its threads with `tag`. dispatch_id: what works for that
-- dispatch. by_id is no reference: who asked stays written when the member is gone.
-- due_at: nobody else looks before; each hold writes a new one, and its value is the fence.
create table cancellations (
    id uuid primary key,
    house_id uuid not null constraint cancellations_house_fkey references houses,
    thread_id uuid,
    dispatch_id text collate "C" constraint cancellations_dispatch_fits
        check (dispatch_id ~ '^\d{15}_\d{10}\.\d{1,3}$'),
    tag text constraint cancellations_tag_fits check (char_length(tag) between 1 and 64),
    cascade boolean not null,
    by_kind text not null constraint cancellations_by_kind_known
        check (by_kind in ('member', 'agent', 'service')),
    by_id text not null
        constraint cancellations_by_id_fits check (char_length(by_id) between 1 and 200),
    by_name text
        constraint cancellations_by_name_fits check (char_length(by_name) between 1 and 200),
    message text constraint cancellations_message_fits check (char_length(message) <= 2000),
    before_ms bigint not null,
    after_thread_id uuid,
    is_last_walk boolean not null,
    thread_count integer not null default 0,
    cancelled_count integer not null default 0,
    requested_count integer not null default 0,
    requested_at timestamptz not null default now(),
    due_at timestamptz not null default now(),
    done_at timestamptz,
    constraint cancellations_dispatch_has_thread
        check (dispatch_id is null or thread_id is not null),
    constraint cancellations_tag_is_a_houses check (tag is null or thread_id is null),
    constraint cancellations_thread_fkey foreign key (thread_id, house_id)
        references threads (id, house_id) on delete cascade
);
create index cancellations_house on cancellations (house_id, id);
create index cancellations_thread on cancellations (thread_id) where thread_id is not null;
create index cancellations_open on cancellations (id) where done_at is null;
create index cancellations_done on cancellations (done_at) where done_at is not null;
-- One walk at a time over what works for a dispatch, however many ask.
create unique index cancellations_open_dispatch on cancellations (thread_id, dispatch_id)
    where done_at is null and dispatch_id is not null;

alter table cancellations enable row level security;
alter table cancellations force row level security;

-- Members ask, in their own name, and look; the whole house's work is an owner's to end. Workers
-- go on, ask for what works for a dispatch they ended, and forget what is done.
grant select, insert (id, house_id, thread_id, dispatch_id, tag, cascade, by_kind, by_id,
                      by_name, message, before_ms, is_last_walk, due_at)
    on cancellations to arbe_api;
grant select, insert,
    update (before_ms, after_thread_id, is_last_walk, thread_count, cancelled_count,
            requested_count, due_at, done_at), delete
    on cancellations to arbe_worker;
create policy api_reads on cancellations for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy api_inserts on cancellations for insert to arbe_api
    with check (house_id = (select arbe_current_house())
        and by_kind = 'member' and by_id = (select arbe_current_member())::text
        and (thread_id is not null or (select arbe_is_owner())));
create policy worker_reads on cancellations for select to arbe_worker using (true);
create policy worker_inserts on cancellations for insert to arbe_worker
    with check (dispatch_id is not null);
create policy worker_updates on cancellations for update to arbe_worker using (true);
create policy worker_deletes on cancellations for delete to arbe_worker
    using (done_at is not null);
