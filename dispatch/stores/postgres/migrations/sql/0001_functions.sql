-- The few functions that see more than their caller. Owned by arbe_definer, a role without
-- login and without BYPASSRLS: what they may see is written in its policies (0001_rights.sql).
-- Promise of all: search_path is empty, so a caller cannot slip in a table of its own.

-- Who the transaction speaks for. After a local setting ended it reads '' and not NULL.
create function arbe_current_member() returns uuid
    language sql stable parallel safe set search_path = ''
    return nullif(current_setting('arbe.member', true), '')::uuid;

-- NULL for nobody and for a member who was removed: every policy is then false.
create function arbe_current_house() returns uuid
    language sql stable security definer set search_path = ''
    return (select m.house_id from public.members m where m.id = public.arbe_current_member());

create function arbe_is_owner() returns boolean
    language sql stable security definer set search_path = ''
    return exists (
        select from public.members m
        where m.id = public.arbe_current_member() and m.role = 'owner'
    );

-- A token's digest in, its living member out. Notes the use at most once a minute, and never
-- waits for that: a row somebody holds is skipped.
create function arbe_find_caller(wanted text)
    returns table (member_id uuid, house_id uuid, role text, name text)
    language sql volatile security definer set search_path = ''
begin atomic
    update public.tokens set last_used_at = now() where tokens.id in (
        select t.id from public.tokens t
        where t.digest = wanted
            and (t.expires_at is null or t.expires_at > now())
            and (t.last_used_at is null or t.last_used_at < now() - interval '1 minute')
        for update skip locked
    );
    select m.id, m.house_id, m.role, m.name
    from public.tokens t join public.members m on m.id = t.member_id
    where t.digest = wanted and (t.expires_at is null or t.expires_at > now());
end;

-- House, primary thread, owner and token in one statement: all or nothing, and the circular
-- references are checked when all four rows stand. Returns the time written into all of them.
create function arbe_create_house(
    new_house uuid, house_name text, new_thread uuid, new_member uuid, member_name text,
    new_token uuid, token_name text, token_digest text, token_expires_at timestamptz
) returns timestamptz
    language sql volatile security definer set search_path = ''
begin atomic
    with house as (
        insert into public.houses (id, name, primary_thread_id)
        values (new_house, house_name, new_thread)
    ), thread as (
        insert into public.threads (id, house_id, name, status)
        values (new_thread, new_house, 'home', 'open')
    ), member as (
        insert into public.members (id, house_id, name, role)
        values (new_member, new_house, member_name, 'owner')
    ), token as (
        insert into public.tokens (id, member_id, house_id, name, digest, expires_at)
        values (new_token, new_member, new_house, token_name, token_digest, token_expires_at)
    )
    select now();
end;

-- Whoever deletes a thread's row, by a tree, a cascade or a sweep: its stream is on the outbox
-- in the same transaction.
create function arbe_note_deletion() returns trigger
    language plpgsql security definer set search_path = ''
as $$
begin
    insert into public.deletions (thread_id, house_id) values (old.id, old.house_id)
    on conflict do nothing;
    return null;
end
$$;
create trigger threads_note_deletion after delete on threads
    for each row execute function arbe_note_deletion();
