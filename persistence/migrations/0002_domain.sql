-- Up Migration

create type reservation_status as enum
  ('queued', 'building', 'provisioning', 'running', 'extending', 'snapshotting', 'expired', 'failed', 'cancelled');

-- The catalogue of GPU types: what a request is checked against, and how a node is shared.
create table gpu_types (
  gpu_type            text primary key check (gpu_type = lower(gpu_type)),
  instance_type       text not null,
  resource_name       text,                           -- Kubernetes resource of one slot; null on CPU types
  max_gpus            integer not null,               -- GPUs that one reservation may ask for on one node
  max_per_node        integer not null check (max_per_node >= 1),  -- slots of one node
  max_gang_nodes      integer not null default 1,
  cpus                integer not null,
  memory_gb           integer not null,
  cpu_share           double precision not null,      -- of one node's CPUs, requested per slot
  memory_share        double precision not null,
  efa_count           integer not null default 0,
  max_hours           double precision not null,      -- first stay
  max_total_hours     double precision not null,      -- with extensions
  total_cluster_gpus  integer not null default 0,     -- as the tracker last saw it
  is_active           boolean not null default true,
  description         text,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now()
);

-- What people see of a reservation, written in the transaction of each turn. The truth is the actor's snapshot.
create table reservations (
  reservation_id          text primary key,
  user_id                 text not null,
  status                  reservation_status not null,
  substate                text,
  gpu_type                text not null references gpu_types,
  gpu_count               integer not null check (gpu_count >= 0),
  instance_type           text,
  duration_hours          double precision not null check (duration_hours > 0),
  total_hours             double precision not null,
  created_at              timestamptz not null,
  updated_at              timestamptz not null default now(),
  state_entered_at        timestamptz not null,
  launched_at             timestamptz,
  expires_at              timestamptz,
  reservation_ended       timestamptz,
  name                    text not null,
  github_user             text,
  image                   text,
  pod_name                text,
  node_name               text,
  node_ip                 text,
  node_port               integer,
  ssh_command             text,
  jupyter_enabled         boolean not null default false,
  jupyter_state           text not null default 'off',
  jupyter_url             text,
  jupyter_port            integer,
  jupyter_error           text,
  disk_id                 uuid,
  disk_name               text,
  snapshot_id             text,
  failure_reason          text,
  current_detailed_status text,
  secondary_users         jsonb not null default '[]',
  warnings_sent           jsonb not null default '[]',
  last_extension          jsonb,
  oom_count               integer not null default 0,
  last_oom_at             timestamptz,
  oom_container           text,
  is_multinode            boolean not null default false,
  master_reservation_id   text,
  node_index              integer,
  total_nodes             integer,
  preserve_entrypoint     boolean not null default false,
  cli_version             text,
  check ((status in ('expired', 'failed', 'cancelled')) = (reservation_ended is not null)),
  check (status not in ('running', 'extending') or (launched_at is not null and expires_at is not null))
) with (fillfactor = 70);
create index reservations_by_user on reservations (user_id, created_at desc);
create index reservations_by_status on reservations (status, gpu_type);
create index reservations_by_creation on reservations (created_at desc, reservation_id);
create index reservations_by_expiry on reservations (expires_at) where status in ('running', 'extending');
create index reservations_by_master on reservations (master_reservation_id) where master_reservation_id is not null;
create index reservations_ended on reservations (reservation_ended) where reservation_ended is not null;
create index reservations_by_prefix on reservations (reservation_id text_pattern_ops);

-- A row exists before any volume does. Two live disks of one user never share a name; identity is the id.
create table disks (
  disk_id                uuid primary key,
  disk_name              text not null check (disk_name ~ '^[a-zA-Z0-9_-]{1,63}$'),
  user_id                text not null,
  size_gb                integer not null check (size_gb between 1 and 16384),
  disk_size              text,
  state                  text not null default 'opening',
  created_at             timestamptz not null,
  last_used              timestamptz,
  in_use                 boolean not null default false,
  reservation_id         text,
  is_backing_up          boolean not null default false,
  is_deleted             boolean not null default false,
  delete_date            timestamptz,
  marked_deleted_at      timestamptz,
  purged_at              timestamptz,
  snapshot_count         integer not null default 0,
  pending_snapshot_count integer not null default 0,
  latest_snapshot_id     text,
  last_snapshot_at       timestamptz,
  volume_claim           text,
  problem                text,
  last_updated           timestamptz not null default now(),
  check (in_use = (reservation_id is not null)),
  check (is_deleted = (delete_date is not null))
);
-- One name, one disk of a user; a purged disk frees its name.
create unique index disks_name on disks (user_id, disk_name) where purged_at is null;
-- One live reservation per disk is a property of the row; one disk per live reservation is this index (R11).
create unique index disks_holder on disks (reservation_id) where reservation_id is not null;

create table disk_snapshots (
  snapshot_id    text primary key,
  disk_id        uuid not null references disks,
  reservation_id text,
  status         text not null check (status in ('pending', 'complete', 'failed')),
  size_bytes     bigint,
  reason         text,
  created_at     timestamptz not null,
  completed_at   timestamptz
);
create index disk_snapshots_of on disk_snapshots (disk_id, created_at desc);

-- Result of an operation of the disk queue, for its sender (S5, S14).
create table operations (
  operation_id text primary key,
  user_id      text not null,
  action       text not null,
  disk_id      uuid,
  status       text not null default 'pending' check (status in ('pending', 'completed', 'failed')),
  error        text,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now()
);

-- Names of dev servers. A live name has one owner; its row goes with the owner.
create table domain_mappings (
  domain_name    text primary key check (domain_name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  reservation_id text not null unique,
  node_ip        text,
  node_port      integer,
  expires_at     timestamptz,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
);

create table alb_target_groups (
  reservation_id           text primary key,
  domain_name              text not null,
  jupyter_target_group_arn text,
  jupyter_rule_arn         text,
  expires_at               timestamptz,
  created_at               timestamptz not null default now(),
  updated_at               timestamptz not null default now()
);

-- Secret values of requests (environment variables, Jupyter tokens), by reference, so that they never stand in events, history or logs.
create table secrets (
  secret_ref text primary key,
  owner      text not null,
  value      jsonb not null,
  created_at timestamptz not null default now()
);

-- Build contexts by content hash.
create table build_contexts (
  hash       text primary key,
  owner      text not null,
  archive    bytea not null,
  created_at timestamptz not null default now()
);

create table api_users (
  user_id    integer generated always as identity primary key,
  username   text not null,
  account    text not null default '',
  email      text,
  aws_arn    text,
  created_at timestamptz not null default now(),
  is_active  boolean not null default true,
  unique (account, username)
);

create table api_keys (
  key_id       integer generated always as identity primary key,
  user_id      integer not null references api_users on delete cascade,
  key_hash     text not null unique,
  key_prefix   text not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz,
  last_used_at timestamptz,
  is_active    boolean not null default true,
  description  text
);
create index api_keys_by_user on api_keys (user_id) where is_active;
create index api_keys_by_expiry on api_keys (expires_at) where is_active;

-- Failed tries of queue messages that are not known to be their sender's fault: after some, a message counts as poison.
create table queue_failures (
  queue   text not null,
  msg_id  bigint not null,
  tries   integer not null,
  reason  text not null,
  last_at timestamptz not null default now(),
  primary key (queue, msg_id)
);

-- The queues of intent from outside.
select pgmq.create('gpu_reservations');
select pgmq.create('disk_operations');

-- Down Migration
drop table queue_failures, api_keys, api_users, build_contexts, secrets, alb_target_groups, domain_mappings, operations, disk_snapshots, disks, reservations, gpu_types cascade;
drop type reservation_status;
select pgmq.drop_queue('gpu_reservations');
select pgmq.drop_queue('disk_operations');
