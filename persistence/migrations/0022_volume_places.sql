-- Up Migration

-- Where a disk's volume can be used, as its storage says; null while that is not known. Who waits for capacity is granted nodes of its disk's
-- place alone, so the place stands with the request: the line is planned from its rows.
alter table disks add column volume_place jsonb;
alter table capacity_requests add column place jsonb;

-- Down Migration
alter table capacity_requests drop column place;
alter table disks drop column volume_place;
