-- Segments: entries that were moved out of Redis, packed, here or in an object store.
-- Promise: at most one is made for each position of a thread's pointer (`fence`), so they form a
-- chain. A restored thread's are kept for a while (`dropped_at`): Redis may forget the restore.
create table segments (
    id uuid primary key,
    thread_id uuid not null,
    house_id uuid not null,
    fence text collate "C" not null,
    after_id text collate "C" not null,
    first_id text collate "C" not null,
    last_id text collate "C" not null,
    first_seq bigint,
    last_seq bigint,
    entry_count int not null constraint segments_entries_count check (entry_count > 0),
    byte_count bigint not null,
    packed_bytes int not null,
    checksum bytea not null
        constraint segments_checksum_is_sha256 check (octet_length(checksum) = 32),
    place text,
    data bytea,
    created_at timestamptz not null default now(),
    dropped_at timestamptz,
    constraint segments_fence_key unique (thread_id, fence),
    constraint segments_order check (after_id < first_id and first_id <= last_id),
    constraint segments_in_one_place check ((place is null) <> (data is null)),
    constraint segments_thread_fkey foreign key (thread_id, house_id)
        references threads (id, house_id) on delete cascade
);
alter table segments alter column data set storage external;  -- compressed already
create index segments_last on segments (thread_id, last_id);
create index segments_dropped on segments (dropped_at) where dropped_at is not null;
create index threads_archive on threads (id) where config ? 'archive';

alter table segments enable row level security;
alter table segments force row level security;

-- workers make and end them, members look
grant select on segments to arbe_api;
grant select,
    insert (id, thread_id, house_id, fence, after_id, first_id, last_id, first_seq,
            last_seq, entry_count, byte_count, packed_bytes, checksum, place, data),
    update (dropped_at), delete on segments to arbe_worker;
create policy api_reads on segments for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on segments for select to arbe_worker using (true);
create policy worker_inserts on segments for insert to arbe_worker with check (true);
create policy worker_updates on segments for update to arbe_worker using (true);
create policy worker_deletes on segments for delete to arbe_worker using (true);

-- an archived thread's time may be over
grant update (expires_at) on threads to arbe_worker;

-- A thread goes on in a new one, which takes its key, its place and its labels along.
-- Promise: all or nothing, and once: a repeat returns the thread that was made first.
-- Returns no row if there is no such thread.
create function arbe_roll_over(old_id uuid, new_id uuid) returns setof uuid
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    old public.threads;
    next_id uuid;
begin
    select * into old from public.threads t where t.id = old_id for update;
    if not found then
        return;
    end if;
    select t.id into next_id from public.threads t where t.previous_thread_id = old_id
        order by t.id limit 1;
    if next_id is null then
        next_id := new_id;
        update public.threads set key = null where id = old_id;
        insert into public.threads (id, house_id, parent_thread_id, parent_agent_id, name,
            pinned_at, tags, environment_id, status, config, key, when_busy, metadata,
            expires_at, previous_thread_id)
        values (new_id, old.house_id, old.parent_thread_id, old.parent_agent_id, old.name,
            old.pinned_at, old.tags, old.environment_id,
            case when old.parent_thread_id is null then 'open' else 'idle' end, old.config,
            old.key, old.when_busy,
            old.metadata || jsonb_build_object('previous_thread', old_id),
            case when old.expires_at > now() then old.expires_at end, old_id);
        insert into public.thread_agents (thread_id, agent_id, house_id, trigger_mode)
        select new_id, a.agent_id, a.house_id, a.trigger_mode from public.thread_agents a
        where a.thread_id = old_id;
    end if;
    update public.threads set archived_at = coalesce(archived_at, now()) where id = old_id;
    return next next_id;
end
$$;
revoke execute on function arbe_roll_over(uuid, uuid) from public;
grant execute on function arbe_roll_over(uuid, uuid) to arbe_worker;
grant select on threads to arbe_definer;
grant update (key, archived_at) on threads to arbe_definer;
grant select, insert on thread_agents to arbe_definer;
create policy definer_updates on threads for update to arbe_definer using (true);
create policy definer_reads on thread_agents for select to arbe_definer using (true);
create policy definer_inserts on thread_agents for insert to arbe_definer with check (true);

grant create on schema public to arbe_definer;
alter function arbe_roll_over(uuid, uuid) owner to arbe_definer;
revoke create on schema public from arbe_definer;
