-- What a thread's life needs of its row: what its owner notes on it, when it is over, which
-- thread it goes on from, and when its entries were last moved out of Redis.
alter table threads
    add column metadata jsonb not null default '{}'
        constraint threads_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
    add column expires_at timestamptz,
    add column archived_at timestamptz,
    add column previous_thread_id uuid,
    add constraint threads_previous_fkey foreign key (previous_thread_id, house_id)
        references threads (id, house_id) on delete set null (previous_thread_id);
create index threads_expires_at on threads (expires_at) where expires_at is not null;
create index threads_previous on threads (previous_thread_id)
    where previous_thread_id is not null;

grant insert (metadata, expires_at, previous_thread_id),
    update (config, metadata, expires_at) on threads to arbe_api;
grant update (archived_at) on threads to arbe_worker;
