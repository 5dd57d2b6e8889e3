-- Roles belong to the cluster, not to one database: several databases may share them, and two
-- migrations of two databases may meet here. A role found too strong is refused, not repaired.
do $$
declare
    wanted text;
    found record;
    may_step_down boolean;
begin
    foreach wanted in array array['arbe_api', 'arbe_worker', 'arbe_definer'] loop
        begin
            if to_regrole(wanted) is null then
                execute format('create role %I nologin', wanted);
            end if;
        exception when duplicate_object or unique_violation then
            null;  -- another migration of this cluster was first
        end;
        select rolsuper or rolbypassrls or rolcanlogin or rolcreaterole as strong, rolname
            into found from pg_roles where rolname = wanted;
        if found.strong then
            raise exception 'role % must have neither LOGIN, SUPERUSER, CREATEROLE nor BYPASSRLS', wanted
                using errcode = 'insufficient_privilege';
        end if;
        -- The login of DATABASE_URL steps down into these roles.
        if current_setting('server_version_num')::int >= 160000 then
            may_step_down := pg_has_role(current_user, wanted, 'set');
        else
            may_step_down := pg_has_role(current_user, wanted, 'member');
        end if;
        if not may_step_down then
            execute format('grant %I to current_user', wanted);
        end if;
    end loop;
end
$$;
