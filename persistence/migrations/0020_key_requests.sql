-- Up Migration

-- The Idempotency-Key of the request that made a key, with what was asked for. The key itself is kept nowhere, so it cannot be told again: sent
-- again, the request gets another one, and the first ends.
alter table api_keys
  add column request_key  text,
  add column request_wish text,
  add check ((request_key is null) = (request_wish is null));
create unique index api_keys_by_request on api_keys (user_id, request_key) where request_key is not null and is_active;

-- Down Migration
drop index api_keys_by_request;
alter table api_keys drop column request_key, drop column request_wish;
