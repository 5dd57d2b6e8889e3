-- A deleted thread lets its sandbox go, in the same transaction: afterwards nobody would know
-- which one it was. Promise: released once no thread points at it; two deletes at once wait for
-- each other at the sandbox's row, so that the later one sees that it was the last.
create function arbe_release_sandbox() returns trigger
    language plpgsql security definer set search_path = ''
as $$
begin
    perform from public.sandboxes s where s.id = old.sandbox_id for update;
    update public.sandboxes set status = 'released'
    where id = old.sandbox_id and status <> 'released' and not exists (
        select from public.threads t where t.sandbox_id = old.sandbox_id
    );
    return null;
end
$$;
create trigger threads_release_sandbox after delete on threads
    for each row when (old.sandbox_id is not null) execute function arbe_release_sandbox();

revoke execute on function arbe_release_sandbox() from public;
grant select (sandbox_id) on threads to arbe_definer;
grant select, update (status) on sandboxes to arbe_definer;
create policy definer_reads on threads for select to arbe_definer using (true);
create policy definer_reads on sandboxes for select to arbe_definer using (true);
create policy definer_updates on sandboxes for update to arbe_definer using (true);

grant create on schema public to arbe_definer;
alter function arbe_release_sandbox() owner to arbe_definer;
revoke create on schema public from arbe_definer;
