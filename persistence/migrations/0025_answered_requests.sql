-- Up Migration

-- Not operators alone have their requests answered again under a key. Replicas of the version before still write under the old name.
alter table admin_acts rename to answered_requests;
alter table answered_requests rename column act to request;
alter index admin_acts_at rename to answered_requests_at;
create view admin_acts as select user_name, key, request as act, answer, at from answered_requests;

-- Down Migration
drop view admin_acts;
alter index answered_requests_at rename to admin_acts_at;
alter table answered_requests rename column request to act;
alter table answered_requests rename to admin_acts;
