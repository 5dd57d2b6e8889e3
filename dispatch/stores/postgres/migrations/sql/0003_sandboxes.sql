-- A sandbox is released when nobody used it for long, and removed by whoever has it once no
-- command can run in it any more. `used_until`: the last command ends by then at the latest.
alter table sandboxes
    add column used_until timestamptz not null default now(),
    add column cause text constraint sandboxes_cause_fits check (char_length(cause) <= 2000);
create index sandboxes_used_until on sandboxes (used_until) where status in ('starting', 'ready');
grant update (used_until, cause) on sandboxes to arbe_worker;
