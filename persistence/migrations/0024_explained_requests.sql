-- Up Migration

-- Only who waits tells why. The index says so without naming the state, and so does the statement that uses it: of two indexes that both fit, the
-- planner took that of the whole line, and each turn of a pool read a line of a hundred thousand.
update capacity_requests set waits_because = null where status <> 'waiting' and waits_because is not null;
alter table capacity_requests add constraint capacity_requests_explained_wait check (waits_because is null or status = 'waiting');
drop index capacity_requests_explained;
create index capacity_requests_explained on capacity_requests (gpu_type) where waits_because is not null;

-- Down Migration
drop index capacity_requests_explained;
create index capacity_requests_explained on capacity_requests (gpu_type) where status = 'waiting' and waits_because is not null;
alter table capacity_requests drop constraint capacity_requests_explained_wait;
