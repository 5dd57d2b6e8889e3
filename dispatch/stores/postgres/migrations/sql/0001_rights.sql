-- Who may do what. Three roles without login, which own nothing but five functions:
-- arbe_api (a member's requests), arbe_worker (projection and sweeps), arbe_definer (functions).
-- A verb needs both a grant here and a policy here; no BYPASSRLS, and owners are FORCEd too.
-- `(select f())` makes Postgres ask once per statement and keeps the index on house_id usable.

do $$
declare
    name text;
begin
    foreach name in array array['houses', 'members', 'tokens', 'agents', 'environments',
                                'sandboxes', 'threads', 'thread_agents', 'deletions'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
    end loop;
    for name in select oid::regprocedure::text from pg_proc where proname like 'arbe\_%'
                and pronamespace = 'public'::regnamespace loop
        execute format('revoke execute on function %s from public', name);
    end loop;
end
$$;

grant usage on schema public to arbe_api, arbe_worker, arbe_definer;
grant execute on function arbe_tags_fit(text[]) to arbe_api, arbe_worker, arbe_definer;
grant execute on function arbe_current_member() to arbe_api, arbe_definer;
grant execute on function arbe_current_house(), arbe_is_owner(), arbe_find_caller(text),
    arbe_create_house(uuid, text, uuid, uuid, text, uuid, text, text, timestamptz) to arbe_api;

-- houses: made by arbe_create_house only; the owner renames
grant select, update (name) on houses to arbe_api;
grant select on houses to arbe_worker;
grant insert on houses to arbe_definer;
create policy api_reads on houses for select to arbe_api
    using (id = (select arbe_current_house()));
create policy api_updates on houses for update to arbe_api
    using (id = (select arbe_current_house()) and (select arbe_is_owner()));
create policy worker_reads on houses for select to arbe_worker using (true);
create policy definer_inserts on houses for insert to arbe_definer with check (true);

-- members: seen by their house, managed by its owners
grant select, insert (id, house_id, name, role), update (name, role), delete
    on members to arbe_api;
grant select, insert on members to arbe_definer;
create policy api_reads on members for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy api_inserts on members for insert to arbe_api
    with check (house_id = (select arbe_current_house()) and (select arbe_is_owner()));
create policy api_updates on members for update to arbe_api
    using (house_id = (select arbe_current_house()) and (select arbe_is_owner()));
create policy api_deletes on members for delete to arbe_api
    using (house_id = (select arbe_current_house()) and (select arbe_is_owner()));
create policy definer_reads on members for select to arbe_definer using (true);
create policy definer_inserts on members for insert to arbe_definer with check (true);

-- tokens: one's own; an owner's: those of the whole house. Nobody reads a digest
grant select (id, member_id, house_id, name, created_at, expires_at, last_used_at),
    insert (id, member_id, house_id, name, digest, expires_at), delete on tokens to arbe_api;
grant select, insert, update (last_used_at) on tokens to arbe_definer;
create policy api_reads on tokens for select to arbe_api
    using (house_id = (select arbe_current_house())
        and (member_id = (select arbe_current_member()) or (select arbe_is_owner())));
create policy api_inserts on tokens for insert to arbe_api
    with check (house_id = (select arbe_current_house())
        and (member_id = (select arbe_current_member()) or (select arbe_is_owner())));
create policy api_deletes on tokens for delete to arbe_api
    using (house_id = (select arbe_current_house())
        and (member_id = (select arbe_current_member()) or (select arbe_is_owner())));
create policy definer_reads on tokens for select to arbe_definer using (true);
create policy definer_inserts on tokens for insert to arbe_definer with check (true);
create policy definer_updates on tokens for update to arbe_definer using (true);

-- agents and environments: any member's business
grant select, insert (id, house_id, handle, runner, model, config, trigger_mode),
    update (handle, runner, model, config, trigger_mode), delete on agents to arbe_api;
grant select on agents to arbe_worker;
create policy api_all on agents to arbe_api using (house_id = (select arbe_current_house()));
create policy worker_reads on agents for select to arbe_worker using (true);

grant select, insert (id, house_id, name, provider, config),
    update (name, provider, config), delete on environments to arbe_api;
grant select on environments to arbe_worker;
create policy api_all on environments to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on environments for select to arbe_worker using (true);

-- sandboxes: workers make and end them, members look
grant select on sandboxes to arbe_api;
grant select, insert (id, house_id, environment_id, status), update (status)
    on sandboxes to arbe_worker;
create policy api_reads on sandboxes for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on sandboxes for select to arbe_worker using (true);
create policy worker_inserts on sandboxes for insert to arbe_worker with check (true);
create policy worker_updates on sandboxes for update to arbe_worker using (true);

-- threads: members create, rename, tag, pin, delete; status, usage and the watermark are the
-- projection's alone, and a thread is born at rest
grant select,
    insert (id, house_id, parent_thread_id, parent_agent_id, name, pinned_at, tags,
            environment_id, status, config, key),
    update (name, pinned_at, tags, updated_at), delete on threads to arbe_api;
grant select, update (status, usage, stream_id, sandbox_id, updated_at) on threads to arbe_worker;
grant insert on threads to arbe_definer;
create policy api_reads on threads for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy api_inserts on threads for insert to arbe_api
    with check (house_id = (select arbe_current_house())
        and status = case when parent_thread_id is null then 'open' else 'idle' end);
create policy api_updates on threads for update to arbe_api
    using (house_id = (select arbe_current_house()));
create policy api_deletes on threads for delete to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on threads for select to arbe_worker using (true);
create policy worker_updates on threads for update to arbe_worker using (true);
create policy definer_inserts on threads for insert to arbe_definer with check (true);

-- thread_agents: a thread's overrides, any member's business
grant select, insert, update (trigger_mode), delete on thread_agents to arbe_api;
grant select on thread_agents to arbe_worker;
create policy api_all on thread_agents to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on thread_agents for select to arbe_worker using (true);

-- deletions: written by the trigger, finished and forgotten by workers
grant select on deletions to arbe_api;
grant select, update (done_at), delete on deletions to arbe_worker;
grant select, insert on deletions to arbe_definer;
create policy api_reads on deletions for select to arbe_api
    using (house_id = (select arbe_current_house()));
create policy worker_reads on deletions for select to arbe_worker using (true);
create policy worker_updates on deletions for update to arbe_worker using (true);
create policy worker_deletes on deletions for delete to arbe_worker
    using (done_at is not null);
create policy definer_reads on deletions for select to arbe_definer using (true);
create policy definer_inserts on deletions for insert to arbe_definer with check (true);

-- The definer owns its functions; for taking them it must be able to create here, for a moment.
grant create on schema public to arbe_definer;
alter function arbe_current_house() owner to arbe_definer;
alter function arbe_is_owner() owner to arbe_definer;
alter function arbe_find_caller(text) owner to arbe_definer;
alter function arbe_create_house(uuid, text, uuid, uuid, text, uuid, text, text, timestamptz)
    owner to arbe_definer;
alter function arbe_note_deletion() owner to arbe_definer;
revoke create on schema public from arbe_definer;
