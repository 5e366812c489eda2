-- Up Migration

-- Who keeps records of disks asks every few seconds which have changed. Each turn of a disk writes its row here, so no index on actors, whose rows
-- change with every turn of anything, has to bear it.
create index disks_by_update on disks (last_updated);

-- Down Migration
drop index disks_by_update;
