-- Up Migration

-- By which transaction a step was written. Whoever remembers a snapshot of the transactions it has seen finds what was committed since, in
-- whatever order the commits came: an ascending number would have gaps that are filled later. A default, so that a turn does nothing for it;
-- steps from before this column count as written now, and nobody remembers a snapshot from before now.
alter table history add column xact xid8 not null default pg_current_xact_id();
create index history_changes on history (xact) where left(actor, 12) = 'reservation/';

-- Down Migration
drop index history_changes;
alter table history drop column xact;
