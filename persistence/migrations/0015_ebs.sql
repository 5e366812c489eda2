-- Up Migration

-- Volumes and snapshots of disks in EBS. Nothing there is deleted, and no snapshot is started from, unless it is on record here: others copy
-- tags. A row comes before what it tells of.

create table ebs_volumes (
  disk_id       uuid not null references disks on delete cascade,
  -- Counts the volumes that a disk has had; together they are the token by which AWS recognizes a repeated request.
  generation    integer not null check (generation > 0),
  volume_id     text unique check (volume_id ~ '^vol-'),
  zone          text not null,
  size_gb       integer not null,
  -- EBS's id of the snapshot that it starts from.
  from_snapshot text,
  -- making: asked for. live: the disk's volume. leaving: replaced by a later one, and kept until its data is proven captured. gone: deleted.
  state         text not null default 'making' check (state in ('making', 'live', 'leaving', 'gone')),
  attempted_at  timestamptz,
  created_at    timestamptz not null default now(),
  gone_at       timestamptz,
  -- As EBS had it when it was last compared: instances that hold it, one or, where it allows that, many.
  attached_to   text[] not null default '{}',
  seen_at       timestamptz,
  primary key (disk_id, generation),
  check (state in ('making', 'gone') or volume_id is not null)
);
-- One volume is the disk's; what it replaces is leaving.
create unique index ebs_volumes_live on ebs_volumes (disk_id) where state in ('making', 'live');

create table ebs_snapshots (
  -- Our own id.
  snapshot_id     text primary key,
  disk_id         uuid not null references disks on delete cascade,
  volume_id       text not null,
  ebs_snapshot_id text unique check (ebs_snapshot_id ~ '^snap-'),
  attempted_at    timestamptz,
  created_at      timestamptz not null default now(),
  completed_at    timestamptz,
  -- As EBS had it when it was last compared.
  state           text,
  seen_at         timestamptz
);
create index ebs_snapshots_of on ebs_snapshots (disk_id);

-- Down Migration
drop table ebs_snapshots, ebs_volumes;
