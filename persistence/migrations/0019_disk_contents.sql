-- Up Migration

-- A listing says where it was cut off and what it leaves open; and it may be kept in a bucket, under a path that is written down before the
-- object is made. `entries` is null once the object stands there.
alter table disk_contents
  alter column entries drop not null,
  alter column total drop not null,                     -- null: nobody counted them all
  add column kept integer,
  add column cut text[] not null default '{}',          -- entries, bytes, depth, time, unread
  add column object text unique;                        -- s3://BUCKET/USER/DISK/SNAPSHOT
update disk_contents set kept = jsonb_array_length(entries);
alter table disk_contents alter column kept set not null;
alter table disk_contents add check (entries is not null or object is not null);
create index disk_contents_here on disk_contents (recorded_at) where entries is not null;

-- What a server told of its disk before it was removed: it becomes the contents of the snapshot that is taken next, and of no other.
create table disk_listings (
  disk_id        uuid primary key references disks on delete cascade,
  reservation_id text not null,
  entries        jsonb not null,
  total          integer,
  size_bytes     bigint,
  cut            text[] not null default '{}',
  listed_at      timestamptz not null default now()
);

-- Objects whose snapshots are gone: they are deleted after their rows, so none can be forgotten.
create table disk_contents_leavings (
  object  text primary key,
  left_at timestamptz not null default now()
);
create function leave_disk_contents() returns trigger language plpgsql as $$
begin
  insert into disk_contents_leavings (object) values (old.object) on conflict do nothing;
  return null;
end $$;
create trigger disk_contents_left after delete on disk_contents
  for each row when (old.object is not null) execute function leave_disk_contents();

-- Down Migration
drop table disk_contents_leavings, disk_listings;
delete from disk_contents where entries is null;
drop trigger disk_contents_left on disk_contents;
drop function leave_disk_contents();
drop index disk_contents_here;
update disk_contents set total = kept where total is null;
alter table disk_contents drop column object, drop column cut, drop column kept, alter column entries set not null, alter column total set not null;
