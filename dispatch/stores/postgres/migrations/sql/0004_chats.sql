-- ARC's chats: the table that `PostgreSQLChatStorage.initialize_schema` makes (a test compares
-- them). No messages are here; those are on the chat's thread.
create table arc_chats (
    chat_id text collate "C" primary key,
    status text not null constraint arc_chats_status_known check (status in ('ACTIVE', 'CLOSED')),
    target_agent text not null,
    metadata jsonb not null default '{}'
        constraint arc_chats_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    closed_at timestamptz,
    expires_at timestamptz,
    reason text,
    constraint arc_chats_closed_is_whole check (
        (status = 'CLOSED') = (closed_at is not null)
        and (closed_at is null) = (expires_at is null)
    )
);
create index arc_chats_active on arc_chats (chat_id) where status = 'ACTIVE';
create index arc_chats_expires_at on arc_chats (expires_at) where expires_at is not null;

-- The ids begin with the member they belong to; any storage of chats knows ids and no members,
-- so here too nothing but the id parts one member's chats from another's.
alter table arc_chats enable row level security;
alter table arc_chats force row level security;
grant select, insert, update, delete on arc_chats to arbe_api, arbe_worker;
create policy api_all on arc_chats to arbe_api using (true);
create policy worker_all on arc_chats to arbe_worker using (true);
