-- Up Migration

-- Queue tables swing between empty and full within seconds, and a plan made from yesterday's statistics must not be slow today: each statement
-- of the kernel has one index that fits it, and none that only looks cheap while the table is small.

-- A mailbox is read by actor, in order.
alter table mailbox drop constraint mailbox_pkey, add primary key (actor, id);

-- "is true" keeps this index from statements that look for the pending effects of an actor: they say only that the status is pending.
drop index effects_due;
create index effects_due on effects (next_at) where (status = 'pending') is true;

-- The version of its receiver's machine that the sender knew: a message that only newer code understands waits for newer code. 0: any.
alter table mailbox add column version integer not null default 0;

-- Down Migration
alter table mailbox drop column version;
drop index effects_due;
create index effects_due on effects (next_at) where status = 'pending';
alter table mailbox drop constraint mailbox_pkey, add primary key (id);
