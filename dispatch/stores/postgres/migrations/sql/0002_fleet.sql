-- `arbe diagnose --fleet` asks which threads of a house failed lately.
create index threads_house_failed on threads (house_id, updated_at) where status = 'failed';
