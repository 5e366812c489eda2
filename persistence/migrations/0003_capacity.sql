-- Up Migration

-- One row a node, as the tracker last saw it.
create table nodes (
  node            text primary key,
  uid             text not null,
  gpu_type        text not null,
  ready           boolean not null,
  schedulable     boolean not null,                   -- ready, not cordoned, no foreign NoSchedule taint
  reason          text,                               -- why not
  slots           integer not null,                   -- allocatable slots of the type
  foreign_slots   integer not null default 0,         -- taken by pods that are not ours
  cpu_millis      bigint not null,                    -- allocatable
  memory_bytes    bigint not null,
  foreign_cpu     bigint not null default 0,
  foreign_memory  bigint not null default 0,
  address         text,                               -- where its NodePorts answer
  zone            text,
  labels          jsonb not null default '{}',
  updated_at      timestamptz not null default now()
);
create index nodes_by_type on nodes (gpu_type);

-- The ledger: one row a GPU slot, at most one holder, so a GPU cannot be given twice.
create table gpu_slots (
  gpu_type       text not null references gpu_types,
  node           text not null,
  slot           integer not null check (slot >= 0),
  reservation_id text,
  generation     integer,
  held_since     timestamptz,
  primary key (node, slot),
  check ((reservation_id is null) = (held_since is null))
) with (fillfactor = 80);
create index gpu_slots_by_type on gpu_slots (gpu_type, node);
create index gpu_slots_held on gpu_slots (reservation_id) where reservation_id is not null;

-- A slot with a holder is never handed to another: it must be freed first. The update that grants says so itself; this is the second lock.
create function refuse_double_grant() returns trigger language plpgsql as $$
begin
  raise exception 'slot % of node % is held by reservation %', old.slot, old.node, old.reservation_id using errcode = 'GD002';
end $$;
create trigger gpu_slots_one_holder before update on gpu_slots for each row
  when (old.reservation_id is not null and new.reservation_id is not null and new.reservation_id <> old.reservation_id)
  execute function refuse_double_grant();
create function refuse_delete_of_held_slot() returns trigger language plpgsql as $$
begin
  raise exception 'slot % of node % is held by reservation % and cannot be removed', old.slot, old.node, old.reservation_id using errcode = 'GD003';
end $$;
create trigger gpu_slots_held_stay before delete on gpu_slots for each row
  when (old.reservation_id is not null) execute function refuse_delete_of_held_slot();

-- The queue of each pool: who waits for capacity, in the order of submission, and who holds it.
create table capacity_requests (
  reservation_id text primary key,
  gpu_type       text not null references gpu_types,
  owner          text not null,
  generation     integer not null,
  slots          integer not null check (slots >= 1),
  cpu_millis     bigint not null,
  memory_bytes   bigint not null,
  duration_hours double precision not null,
  node_labels    jsonb not null default '{}',
  gang_id        text,
  gang_size      integer,
  submitted_at   timestamptz not null,
  status         text not null check (status in ('waiting', 'granted')),
  node           text,
  requested_at   timestamptz not null default now(),
  granted_at     timestamptz,
  waits_because  text,
  check ((status = 'granted') = (node is not null))
) with (fillfactor = 80);
create index capacity_requests_line on capacity_requests (gpu_type, submitted_at, reservation_id) where status = 'waiting';

create table gang_members (
  gang_id        text not null,
  reservation_id text not null primary key,
  gpu_type       text not null,
  size           integer not null,
  joined_at      timestamptz not null default now()
);
create index gang_members_of on gang_members (gang_id);

-- Availability per type: written by the pool with each decision, read by the API.
create table gpu_availability (
  gpu_type          text primary key references gpu_types,
  total             integer not null default 0,
  free              integer not null default 0,
  in_use            integer not null default 0,
  queued            integer not null default 0,
  whole_nodes_free  integer not null default 0,
  largest_fit       integer not null default 0,       -- slots that one node could give right now
  paused_because    text,
  updated_at        timestamptz not null default now()
);

-- cpu_share and memory_share: of a node, requested per slot. GPU types take 0.9 of their part; CPU types one slot per node.
-- A MIG slice takes n/7 of an eighth of its node.
insert into gpu_types
  (gpu_type, instance_type, resource_name, max_gpus, max_per_node, max_gang_nodes, cpus, memory_gb, cpu_share, memory_share, efa_count, max_hours, max_total_hours, description)
values
  ('t4',           'g4dn.12xlarge',    'nvidia.com/gpu',          4,  4, 1,  48,  192, 0.9/4,    0.9/4,    0, 24,  48, 'NVIDIA T4, 16 GB'),
  ('t4-small',     'g4dn.2xlarge',     'nvidia.com/gpu',          1,  1, 1,   8,   32, 0.9,      0.9,      0, 24,  48, 'NVIDIA T4, 16 GB, small node'),
  ('l4',           'g6.12xlarge',      'nvidia.com/gpu',          4,  4, 1,  48,  192, 0.9/4,    0.9/4,    1, 24,  48, 'NVIDIA L4, 24 GB'),
  ('a10g',         'g5.12xlarge',      'nvidia.com/gpu',          4,  4, 1,  48,  192, 0.9/4,    0.9/4,    1, 24,  48, 'NVIDIA A10G, 24 GB'),
  ('g5g',          'g5g.2xlarge',      'nvidia.com/gpu',          2,  2, 1,   8,   32, 0.9/2,    0.9/2,    0, 24,  48, 'NVIDIA T4G on ARM'),
  ('rtxpro6000',   'g7e.24xlarge',     'nvidia.com/gpu',          4,  4, 1,  96, 1024, 0.9/4,    0.9/4,    2, 24,  48, 'NVIDIA RTX PRO 6000, 96 GB'),
  ('a100',         'p4d.24xlarge',     'nvidia.com/gpu',          8,  8, 6,  96, 1152, 0.9/8,    0.9/8,    4, 24,  48, 'NVIDIA A100, 40 GB'),
  ('h100',         'p5.48xlarge',      'nvidia.com/gpu',          8,  8, 6, 192, 2048, 0.9/8,    0.9/8,   32, 24,  48, 'NVIDIA H100, 80 GB'),
  ('h200',         'p5e.48xlarge',     'nvidia.com/gpu',          8,  8, 6, 192, 2048, 0.9/8,    0.9/8,   32, 24,  48, 'NVIDIA H200, 141 GB'),
  ('b200',         'p6-b200.48xlarge', 'nvidia.com/gpu',          8,  8, 6, 192, 2048, 0.9/8,    0.9/8,    8, 24,  48, 'NVIDIA B200, 180 GB'),
  ('b300',         'p6-b300.48xlarge', 'nvidia.com/gpu',          8,  8, 6, 192, 2048, 0.9/8,    0.9/8,    8, 24,  48, 'NVIDIA B300, 288 GB'),
  ('h100-mig-1g',  'p5.48xlarge',      'nvidia.com/mig-1g.10gb', 16, 16, 1, 192, 2048, 1.0/56,   1.0/56,   0, 24,  48, 'one seventh of an H100, 10 GB'),
  ('h100-mig-2g',  'p5.48xlarge',      'nvidia.com/mig-2g.20gb',  8,  8, 1, 192, 2048, 2.0/56,   2.0/56,   0, 24,  48, 'two sevenths of an H100, 20 GB'),
  ('h100-mig-3g',  'p5.48xlarge',      'nvidia.com/mig-3g.40gb',  8,  8, 1, 192, 2048, 3.0/56,   3.0/56,   0, 24,  48, 'three sevenths of an H100, 40 GB'),
  ('b200-mig-1g',  'p6-b200.48xlarge', 'nvidia.com/mig-1g.23gb',  4,  4, 1, 192, 2048, 1.0/56,   1.0/56,   0, 24,  48, 'one seventh of a B200, 23 GB'),
  ('b200-mig-2g',  'p6-b200.48xlarge', 'nvidia.com/mig-2g.45gb',  2,  2, 1, 192, 2048, 2.0/56,   2.0/56,   0, 24,  48, 'two sevenths of a B200, 45 GB'),
  ('b200-mig-3g',  'p6-b200.48xlarge', 'nvidia.com/mig-3g.90gb',  2,  2, 1, 192, 2048, 3.0/56,   3.0/56,   0, 24,  48, 'three sevenths of a B200, 90 GB'),
  ('cpu-x86',      'c7i.8xlarge',      null,                      0,  1, 1,  32,   64, 0.85,     0.80,     0, 720, 720, 'CPU only, x86-64'),
  ('cpu-arm',      'c7g.8xlarge',      null,                      0,  1, 1,  32,   64, 0.85,     0.80,     0, 720, 720, 'CPU only, ARM'),
  ('cpu-spot',     'c6id.2xlarge',     null,                      0,  1, 1,   8,   16, 0.85,     0.80,     0, 720, 720, 'CPU only, spot'),
  ('cpu-small',    'cpu-small',        null,                      0,  1, 1,   8,   16, 0.85,     0.80,     0, 720, 720, 'CPU only, 8 cores'),
  ('cpu-large',    'cpu-large',        null,                      0,  1, 1,  32,   64, 0.85,     0.80,     0, 720, 720, 'CPU only, 32 cores');
insert into gpu_availability (gpu_type) select gpu_type from gpu_types;

-- Down Migration
drop table gpu_availability, gang_members, capacity_requests, gpu_slots, nodes cascade;
drop function refuse_double_grant();
drop function refuse_delete_of_held_slot();
