-- Up Migration

-- Maintenance of GPU types, one row a type: announced, or in force once its time has come. Written in the turns of its pool.
create table maintenance (
  gpu_type      text primary key references gpu_types,
  reason        text not null,
  allowed_users text[] not null default '{}',
  from_at       timestamptz not null,
  until_at      timestamptz,                           -- null: until somebody ends it
  asked_by      text not null,
  updated_at    timestamptz not null,
  check (until_at is null or until_at > from_at)
);
-- The doors keep the catalogue, maintenance included, until its version changes.
create trigger maintenance_changed after insert or update or delete on maintenance
  for each statement execute function catalogue_changed();

-- Nodes that an operator is emptying: nothing new is given there. They stay drained until somebody says otherwise, also if the node comes anew.
create table node_drains (
  node       text primary key,
  reason     text not null,
  drained_by text not null,
  drained_at timestamptz not null default now()
);

-- Who dealt with a dead letter, how, and what it became; and what a message for an actor was before its secrets were masked.
alter table dead_letters
  add column original    jsonb,
  add column sender      text,
  add column resolved_by text,
  add column resolution  text,
  add column replayed_as text;
create index dead_letters_all on dead_letters (id) where resolved is not null;

-- What an operation was about, and the code of its refusal.
alter table operations
  add column disk_name text,
  add column request   jsonb,
  add column code      text;
create index operations_of_disk on operations (disk_id, created_at desc) where disk_id is not null;

-- A snapshot that retention has given up is no choice any more, from the turn on in which that was decided.
alter table disk_snapshots drop constraint disk_snapshots_status_check;
alter table disk_snapshots add constraint disk_snapshots_status_check check (status in ('pending', 'complete', 'failed', 'removing'));
create index disks_by_latest_snapshot on disks (latest_snapshot_id) where latest_snapshot_id is not null and purged_at is null;
create index disks_cloning on disks (disk_id) where state = 'cloning';

-- What was on a disk when a snapshot was taken, as far as it was recorded: paths, largest depth and number bounded.
create table disk_contents (
  snapshot_id text primary key references disk_snapshots on delete cascade,
  entries     jsonb not null,                          -- of {path, kind, size}, in the order of their paths
  total       integer not null,                        -- entries that there were
  size_bytes  bigint,
  recorded_at timestamptz not null default now()
);

-- What operators did under an idempotency key, and the answer: sent again, it is answered again and not done again.
create table admin_acts (
  user_name text not null,
  key       text not null,
  act       text not null,                             -- method, path, and a hash of the body
  answer    jsonb,
  at        timestamptz not null default now(),
  primary key (user_name, key)
);
create index admin_acts_at on admin_acts (at);

-- Down Migration
drop table admin_acts;
drop table disk_contents;
drop index disks_cloning;
drop index disks_by_latest_snapshot;
update disk_snapshots set status = 'complete' where status = 'removing';
alter table disk_snapshots drop constraint disk_snapshots_status_check;
alter table disk_snapshots add constraint disk_snapshots_status_check check (status in ('pending', 'complete', 'failed'));
drop index operations_of_disk;
alter table operations drop column disk_name, drop column request, drop column code;
drop index dead_letters_all;
alter table dead_letters drop column original, drop column sender, drop column resolved_by, drop column resolution, drop column replayed_as;
drop table node_drains;
drop table maintenance;
