-- Up Migration

-- When what the row says was last given up: it counts again as soon as a tracker writes it (updated_at), of whatever version.
alter table nodes add column forgotten_at timestamptz;

-- Down Migration
alter table nodes drop column forgotten_at;
