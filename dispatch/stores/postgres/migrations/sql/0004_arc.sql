-- ARC's tasks and who is told of them. A task is a sub-job thread; its row here says whose it is
-- and what its caller noted on it. What became of it is on the thread's stream.
create table arc_tasks (
    id uuid primary key,
    house_id uuid not null,
    member_id uuid not null,
    agent_id uuid not null,
    handle text collate "C" not null,
    priority text not null constraint arc_tasks_priority_known
        check (priority in ('LOW', 'NORMAL', 'HIGH', 'URGENT')),
    metadata jsonb not null default '{}'
        constraint arc_tasks_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
    trace_id text constraint arc_tasks_trace_fits check (char_length(trace_id) <= 200),
    key text collate "C" constraint arc_tasks_key_fits check (char_length(key) between 1 and 255),
    created_at timestamptz not null default now(),
    constraint arc_tasks_thread_fkey foreign key (id, house_id)
        references threads (id, house_id) on delete cascade,
    constraint arc_tasks_key_key unique (member_id, key),
    constraint arc_tasks_member_fkey foreign key (member_id, house_id)
        references members (id, house_id) on delete cascade
);
create index arc_tasks_member on arc_tasks (house_id, member_id);

-- cursor: the last entry of the thread whose events were delivered, or were not asked for.
-- due_at: nobody else looks before; each hold writes a new one, and its value is the fence.
create table arc_subscriptions (
    id uuid primary key,
    house_id uuid not null,
    member_id uuid not null,
    task_id uuid not null constraint arc_subscriptions_task_fkey
        references arc_tasks on delete cascade,
    callback_url text not null constraint arc_subscriptions_url_fits
        check (char_length(callback_url) between 1 and 2000),
    events text[] not null,
    secret text not null,
    active boolean not null default true,
    ended_because text,
    cursor text collate "C" not null default '',
    failure_count integer not null default 0,
    created_at timestamptz not null default now(),
    due_at timestamptz not null default now(),
    constraint arc_subscriptions_member_fkey foreign key (member_id, house_id)
        references members (id, house_id) on delete cascade
);
create index arc_subscriptions_task on arc_subscriptions (task_id);
create index arc_subscriptions_member on arc_subscriptions (house_id, member_id);
create index arc_subscriptions_due on arc_subscriptions (due_at) where active;

alter table arc_tasks enable row level security;
alter table arc_tasks force row level security;
alter table arc_subscriptions enable row level security;
alter table arc_subscriptions force row level security;

-- one's own, and nobody else's; an owner of the house sees no other member's either
grant select, insert (id, house_id, member_id, agent_id, handle, priority, metadata, trace_id,
                     key)
    on arc_tasks to arbe_api;
grant select on arc_tasks to arbe_worker;
create policy api_all on arc_tasks to arbe_api
    using (member_id = (select arbe_current_member())
        and house_id = (select arbe_current_house()));
create policy worker_reads on arc_tasks for select to arbe_worker using (true);

-- the secret is told once, by whoever made it; after that only workers read it, to sign
grant select (id, house_id, member_id, task_id, callback_url, events, active, ended_because,
              cursor, failure_count, created_at, due_at),
    insert (id, house_id, member_id, task_id, callback_url, events, secret)
    on arc_subscriptions to arbe_api;
grant select, update (active, ended_because, cursor, failure_count, due_at)
    on arc_subscriptions to arbe_worker;
create policy api_all on arc_subscriptions to arbe_api
    using (member_id = (select arbe_current_member())
        and house_id = (select arbe_current_house())
        and exists (select from arc_tasks task where task.id = task_id));
create policy worker_reads on arc_subscriptions for select to arbe_worker using (true);
create policy worker_updates on arc_subscriptions for update to arbe_worker using (true);
