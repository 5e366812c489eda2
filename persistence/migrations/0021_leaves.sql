-- Up Migration

-- The finer state that an applied step led to, below its top-level one: 'capacity' with to_state 'queued'. Null if that has no states in it, if the
-- step changed nothing, and in what was written before this column. No default and no index: the table is not rewritten.
alter table history add column leaf text;

-- Down Migration
alter table history drop column leaf;
