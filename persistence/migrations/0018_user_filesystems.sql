-- Up Migration

-- The file system that a person has in EFS beside their disks. Its id is stored once: nobody looks for it by tags, where several may be found.
create table user_filesystems (
  user_id       text primary key,
  filesystem_id text not null unique check (filesystem_id ~ '^fs-'),
  created_at    timestamptz not null default now()
);

-- Down Migration
drop table user_filesystems;
