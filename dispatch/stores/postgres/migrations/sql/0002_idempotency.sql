-- What calls with an Idempotency-Key were answered, so that a repeat is answered the same.
-- Promise: nothing here can be read. Key and request are SHA-256 digests, the answer is sealed
-- with a key made of the caller's token, which is stored nowhere.

-- A row without answer is a claim: somebody is at it until `claimed_until`. `claim_id` is its
-- fence: whoever takes an abandoned claim over changes it, and the former holder keeps nothing.
-- The operator has no member: the nil id stands for them, and no house.
create table idempotency (
    member_id uuid not null,
    house_id uuid,
    key_digest bytea not null
        constraint idempotency_key_is_sha256 check (octet_length(key_digest) = 32),
    request_digest bytea not null
        constraint idempotency_request_is_sha256 check (octet_length(request_digest) = 32),
    reserved_id uuid not null,
    claim_id uuid not null,
    claimed_until timestamptz not null,
    created_at timestamptz not null default now(),
    status int constraint idempotency_status_is_success check (status between 200 and 299),
    answer bytea,
    constraint idempotency_pkey primary key (member_id, key_digest),
    constraint idempotency_answer_whole check ((status is null) = (answer is null)),
    constraint idempotency_operator_has_no_house
        check ((house_id is null) = (member_id = '00000000-0000-0000-0000-000000000000')),
    constraint idempotency_member_fkey foreign key (member_id, house_id)
        references members (id, house_id) on delete cascade
);
create index idempotency_created on idempotency (created_at);

alter table idempotency enable row level security;
alter table idempotency force row level security;

-- one's own, and nobody else's; an owner of the house sees no other member's either
grant select,
    insert (member_id, house_id, key_digest, request_digest, reserved_id, claim_id, claimed_until),
    update (request_digest, reserved_id, claim_id, claimed_until, created_at, status, answer),
    delete on idempotency to arbe_api;
create policy api_all on idempotency to arbe_api
    using (member_id = (select arbe_current_member())
        and house_id is not distinct from (select arbe_current_house()));

-- workers forget what is old, without seeing what it was
grant select (member_id, key_digest, claimed_until, created_at), delete
    on idempotency to arbe_worker;
create policy worker_reads on idempotency for select to arbe_worker using (true);
create policy worker_deletes on idempotency for delete to arbe_worker using (true);

-- A call that founded a house and died before its answer: nobody heard the owner's first token,
-- so the repeat gives it another text. Returns no row if the house was not founded.
-- Promise: only the caller's own unanswered claim opens a house, and only a token never used.
create function arbe_refound_house(wanted uuid, new_digest text)
    returns table (house_id uuid, house_name text, thread_id uuid, member_id uuid,
                   member_name text, token_id uuid, token_name text, created_at timestamptz)
    language sql volatile security definer set search_path = ''
begin atomic
    with unheard as (
        update public.tokens t set digest = new_digest from public.houses h
        where h.id = wanted and t.house_id = h.id
            and t.created_at = h.created_at and t.last_used_at is null
            and exists (
                select from public.idempotency i
                where i.member_id = public.arbe_current_member()
                    and i.reserved_id = wanted and i.status is null
            )
        returning t.id, t.member_id, t.name
    )
    select h.id, h.name, h.primary_thread_id, m.id, m.name, unheard.id, unheard.name, h.created_at
    from unheard join public.members m on m.id = unheard.member_id
        join public.houses h on h.id = m.house_id;
end;
revoke execute on function arbe_refound_house(uuid, text) from public;
grant execute on function arbe_refound_house(uuid, text) to arbe_api;
grant select on houses to arbe_definer;
grant update (digest) on tokens to arbe_definer;
grant select (member_id, reserved_id, status) on idempotency to arbe_definer;
create policy definer_reads on houses for select to arbe_definer using (true);
create policy definer_reads on idempotency for select to arbe_definer using (true);

grant create on schema public to arbe_definer;
alter function arbe_refound_house(uuid, text) owner to arbe_definer;
revoke create on schema public from arbe_definer;
