-- The table of a PostgreSQLChatStorage; {table} and {name} are filled in. One transaction.
select pg_advisory_xact_lock(4611686018427387913);  -- makers one after the other
create table if not exists {table} (
    chat_id text collate "C" primary key,
    status text not null constraint {name}_status_known check (status in ('ACTIVE', 'CLOSED')),
    target_agent text not null,
    metadata jsonb not null default '{}'
        constraint {name}_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    closed_at timestamptz,
    expires_at timestamptz,
    reason text,
    constraint {name}_closed_is_whole check (
        (status = 'CLOSED') = (closed_at is not null)
        and (closed_at is null) = (expires_at is null)
    )
);
create index if not exists {name}_active on {table} (chat_id) where status = 'ACTIVE';
create index if not exists {name}_expires_at on {table} (expires_at)
    where expires_at is not null;
