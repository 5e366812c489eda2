-- Up Migration

-- A person or program that may call the API. `name` is what owns reservations and disks; it is given once and never changes hands.
alter table api_users
  add column name             text,
  add column is_admin         boolean not null default false,
  add column github_user      text,
  add column github_proven_at timestamptz,
  add column last_login_at    timestamptz,
  add check ((github_user is null) = (github_proven_at is null));
update api_users set name = case account when '' then username else username || '@' || account end;
alter table api_users
  alter column name set not null,
  add constraint api_users_name unique (name),
  add check (name ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$');
create index api_users_by_username on api_users (username);
-- GitHub's names do not differ by case; whoever proved one first has it.
create unique index api_users_github on api_users (lower(github_user)) where github_user is not null;

-- `authenticated_at` is when somebody last showed who they are; a rotated key keeps that of the one before.
alter table api_keys
  alter column expires_at set not null,
  add column scopes           text[] not null default '{read,reserve,disks}',
  add column authenticated_at timestamptz not null default now(),
  add column source           text not null default 'key' check (source in ('aws', 'local', 'key')),
  add column revoked_at       timestamptz,
  add check (scopes <@ '{read,reserve,disks,admin}' and cardinality(scopes) > 0),
  add check (is_active = (revoked_at is null)),
  add check (expires_at <= created_at + interval '168 hours'),
  add check (key_hash ~ '^[0-9a-f]{64}$' and length(key_prefix) <= 16);
create index api_keys_by_hash on api_keys (key_hash) where is_active;

-- Who else may do something with a reservation. Its owner stands in its own row.
create table collaborators (
  reservation_id text not null references reservations on delete cascade,
  user_id        integer not null references api_users on delete cascade,
  role           text not null check (role in ('view', 'attach', 'own')),
  added_by       text not null,
  added_at       timestamptz not null default now(),
  primary key (reservation_id, user_id)
);
create index collaborators_by_user on collaborators (user_id);

-- What somebody must sign to prove that a GitHub name is theirs. One at a time, soon over.
create table github_challenges (
  user_id     integer primary key references api_users on delete cascade,
  github_user text not null,
  nonce       text not null,
  expires_at  timestamptz not null
);

-- Signed requests that were taken for a login: each serves once. Forgotten when they are too old to be taken anyway.
create table login_requests (
  signature_hash text primary key,
  expires_at     timestamptz not null
);
create index login_requests_by_expiry on login_requests (expires_at);

-- Who did what to what, from where. A row commits with the action. Rows are never changed and never removed.
create table audit_log (
  id         bigint generated always as identity primary key,
  at         timestamptz not null default clock_timestamp(),
  actor      text not null,          -- user name; of a queue's message without one: the owner's, with details.as_owner
  door       text not null,          -- http, queue:<name>, operator, service
  action     text not null,
  object     text not null,          -- reservation/<id>, disk/<name>, key/<id>, user/<name>
  details    jsonb not null default '{}',
  address    text,
  request_id text,
  key_prefix text
);
create index audit_log_by_object on audit_log (object, id);
create index audit_log_by_actor on audit_log (actor, id);

-- Rows that wait for their link of the chain. Which they are cannot be told from ids: a lower one may commit later.
create table audit_pending (
  id bigint primary key
);

-- The chain: each link's hash covers its row and the link before it. One sealer at a time writes it.
create table audit_seals (
  seq       bigint primary key,
  audit_id  bigint not null unique references audit_log,
  hash      text not null check (hash ~ '^[0-9a-f]{64}$'),
  sealed_at timestamptz not null default now()
);

create function audit_await() returns trigger language plpgsql as $$
begin
  insert into audit_pending select id from added;
  return null;
end $$;
create trigger audit_await after insert on audit_log referencing new table as added for each statement execute function audit_await();

create function audit_refuse() returns trigger language plpgsql as $$
begin
  raise exception 'the audit log is append-only' using errcode = 'restrict_violation';
end $$;
create trigger audit_log_stays before update or delete or truncate on audit_log for each statement execute function audit_refuse();
create trigger audit_seals_stay before update or delete or truncate on audit_seals for each statement execute function audit_refuse();

-- Down Migration
drop table audit_seals, audit_pending, audit_log, login_requests, github_challenges, collaborators;
drop function audit_await, audit_refuse;
