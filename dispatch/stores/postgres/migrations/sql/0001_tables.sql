-- Promise: a row's house is written once, at birth, and every reference between two rows of a
-- house carries the house with it: no foreign key can point into another house.
-- Text limits stand here too, so that no door can forget them.

create function arbe_tags_fit(tags text[]) returns boolean
    language sql immutable parallel safe set search_path = ''
    return cardinality(tags) <= 32 and not exists (
        select from unnest(tags) as tag where tag is null or char_length(tag) not between 1 and 64
    );

create table houses (
    id uuid primary key,
    name text not null constraint houses_name_fits check (char_length(name) between 1 and 200),
    primary_thread_id uuid not null,
    created_at timestamptz not null default now()
);

create table members (
    id uuid primary key,
    house_id uuid not null constraint members_house_fkey references houses,
    name text not null constraint members_name_fits check (char_length(name) between 1 and 200),
    role text not null constraint members_role_known check (role in ('owner', 'member')),
    created_at timestamptz not null default now(),
    constraint members_house_id_key unique (house_id, id)
);

create table tokens (
    id uuid primary key,
    member_id uuid not null,
    house_id uuid not null,
    name text not null constraint tokens_name_fits check (char_length(name) between 1 and 200),
    digest text collate "C" not null
        constraint tokens_digest_key unique
        constraint tokens_digest_is_sha256 check (digest ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    constraint tokens_member_fkey foreign key (member_id, house_id)
        references members (id, house_id) on delete cascade
);
create index tokens_member on tokens (house_id, member_id, id);

create table agents (
    id uuid primary key,
    house_id uuid not null constraint agents_house_fkey references houses,
    handle text collate "C" not null
        constraint agents_handle_fits check (handle ~ '^[a-z][a-z0-9_-]{0,38}$'),
    runner text not null
        constraint agents_runner_fits check (char_length(runner) between 1 and 200),
    model text constraint agents_model_fits check (char_length(model) between 1 and 200),
    config jsonb not null default '{}'
        constraint agents_config_is_object check (jsonb_typeof(config) = 'object'),
    trigger_mode text not null default 'mention'
        constraint agents_trigger_mode_known check (trigger_mode in ('always', 'mention', 'never')),
    created_at timestamptz not null default now(),
    constraint agents_house_id_key unique (house_id, id),
    constraint agents_handle_key unique (house_id, handle)
);

create table environments (
    id uuid primary key,
    house_id uuid not null constraint environments_house_fkey references houses,
    name text not null
        constraint environments_name_fits check (char_length(name) between 1 and 200),
    provider text not null
        constraint environments_provider_fits check (char_length(provider) between 1 and 200),
    config jsonb not null default '{}'
        constraint environments_config_is_object check (jsonb_typeof(config) = 'object'),
    created_at timestamptz not null default now(),
    constraint environments_house_id_key unique (house_id, id)
);

create table sandboxes (
    id uuid primary key,
    house_id uuid not null constraint sandboxes_house_fkey references houses,
    environment_id uuid,
    status text not null default 'starting' constraint sandboxes_status_known
        check (status in ('starting', 'ready', 'dead', 'released')),
    created_at timestamptz not null default now(),
    constraint sandboxes_house_id_key unique (house_id, id),
    constraint sandboxes_environment_fkey foreign key (environment_id, house_id)
        references environments (id, house_id) on delete set null (environment_id)
);
create index sandboxes_environment on sandboxes (environment_id) where environment_id is not null;

-- `threads_house_id_key` is three things at once: the target of composite references, the paging
-- order of a house (read backwards: newest first), and the guard that an id has one house.
create table threads (
    id uuid primary key,
    house_id uuid not null constraint threads_house_fkey references houses,
    parent_thread_id uuid,
    parent_agent_id uuid,
    name text constraint threads_name_fits check (char_length(name) between 1 and 200),
    pinned_at timestamptz,
    tags text[] not null default '{}' constraint threads_tags_fit check (arbe_tags_fit(tags)),
    environment_id uuid,
    sandbox_id uuid,
    status text not null constraint threads_status_known
        check (status in ('open', 'idle', 'running', 'completed', 'failed', 'cancelled')),
    usage jsonb not null default '{}'
        constraint threads_usage_is_object check (jsonb_typeof(usage) = 'object'),
    config jsonb not null default '{}'
        constraint threads_config_is_object check (jsonb_typeof(config) = 'object'),
    key text collate "C" constraint threads_key_fits check (char_length(key) between 1 and 200),
    stream_id text collate "C" not null default ''
        constraint threads_stream_id_fits check (stream_id ~ '^(\d{15}_\d{10})?$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint threads_one_parent check (parent_thread_id is null or parent_agent_id is null),
    constraint threads_house_id_key unique (house_id, id),
    constraint threads_key_key unique (house_id, key),
    constraint threads_parent_thread_fkey foreign key (parent_thread_id, house_id)
        references threads (id, house_id) on delete cascade,
    constraint threads_parent_agent_fkey foreign key (parent_agent_id, house_id)
        references agents (id, house_id),
    constraint threads_environment_fkey foreign key (environment_id, house_id)
        references environments (id, house_id),
    constraint threads_sandbox_fkey foreign key (sandbox_id, house_id)
        references sandboxes (id, house_id) on delete set null (sandbox_id)
);
create index threads_parent_thread on threads (parent_thread_id, id)
    where parent_thread_id is not null;
create index threads_parent_agent on threads (parent_agent_id, id)
    where parent_agent_id is not null;
create index threads_environment on threads (environment_id) where environment_id is not null;
create index threads_sandbox on threads (sandbox_id) where sandbox_id is not null;
create index threads_house_running on threads (house_id, id) where status = 'running';
create index threads_running on threads (id) where status = 'running';

-- A house and its primary thread are born in one statement; neither stands alone.
alter table houses add constraint houses_primary_thread_fkey
    foreign key (primary_thread_id, id) references threads (id, house_id);
create index houses_primary_thread on houses (primary_thread_id);

create table thread_agents (
    thread_id uuid not null,
    agent_id uuid not null,
    house_id uuid not null,
    trigger_mode text not null constraint thread_agents_trigger_mode_known
        check (trigger_mode in ('always', 'mention', 'never')),
    constraint thread_agents_pkey primary key (thread_id, agent_id),
    constraint thread_agents_thread_fkey foreign key (thread_id, house_id)
        references threads (id, house_id) on delete cascade,
    constraint thread_agents_agent_fkey foreign key (agent_id, house_id)
        references agents (id, house_id) on delete cascade
);
create index thread_agents_agent on thread_agents (agent_id);

-- The outbox of deletes: a row here means "the stream must go"; done_at means it went.
create table deletions (
    thread_id uuid primary key,
    house_id uuid not null constraint deletions_house_fkey references houses,
    requested_at timestamptz not null default now(),
    done_at timestamptz
);
create index deletions_open on deletions (thread_id) where done_at is null;
create index deletions_done on deletions (done_at) where done_at is not null;
create index deletions_house on deletions (house_id, thread_id);
