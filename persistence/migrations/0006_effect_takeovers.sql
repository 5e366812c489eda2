-- Up Migration

-- How often the lease of an effect ran out and another process took it over: whoever runs it may be dying of it. Null is never, and takes no
-- room: hardly any effect is ever taken over.
alter table effects add column takeovers integer;

-- Suspects are leased one at a time, and looked for without a walk over all that is pending.
create index effects_suspects on effects (takeovers, next_at) where (status = 'pending') is true and takeovers >= 3;

-- Down Migration
drop index effects_suspects;
alter table effects drop column takeovers;
