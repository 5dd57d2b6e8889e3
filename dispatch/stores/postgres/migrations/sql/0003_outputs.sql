-- Outputs of commands that were too long for the stream, in compressed parts, so that a reader
-- on any machine has them. They go with their thread, or when they are old.
create table command_outputs (
    thread_id uuid not null,
    ref uuid not null,
    part int not null constraint command_outputs_part_counts check (part >= 0),
    house_id uuid not null,
    at timestamptz not null default now(),
    data bytea not null,
    constraint command_outputs_pkey primary key (thread_id, ref, part),
    constraint command_outputs_thread_fkey foreign key (thread_id, house_id)
        references threads (id, house_id) on delete cascade
);
alter table command_outputs alter column data set storage external;  -- compressed already
create index command_outputs_at on command_outputs (at);

alter table command_outputs enable row level security;
alter table command_outputs force row level security;

-- members read; workers write, and forget without reading
grant select on command_outputs to arbe_api;
grant select (thread_id, ref, part, house_id, at), insert (thread_id, ref, part, house_id, data),
    delete on command_outputs to arbe_worker;
create policy api_reads on command_outputs for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on command_outputs for select to arbe_worker using (true);
create policy worker_inserts on command_outputs for insert to arbe_worker with check (true);
create policy worker_deletes on command_outputs for delete to arbe_worker using (true);
