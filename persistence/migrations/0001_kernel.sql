-- Up Migration

-- Durable actors: one row an actor, its machine's snapshot in it. Rewritten at every turn, hence the fillfactor (room for HOT updates).
create table actors (
  actor             text primary key,                 -- kind/id
  kind              text not null,
  machine_version   integer not null,
  seq               bigint not null default 0,        -- number of the last event in its history
  status            text not null check (status in ('unborn', 'active', 'done', 'error', 'stopped')),
  state             text,                             -- top-level state
  snapshot          jsonb,                            -- status, value, context, historyValue, output, error
  born_at           timestamptz,
  updated_at        timestamptz not null default now(),
  quarantined_at    timestamptz,                      -- its snapshot could not be revived: left alone until an operator looks
  quarantine_reason text,
  check ((status = 'unborn') = (snapshot is null))
) with (fillfactor = 70);
create index actors_by_state on actors (kind, state);
create index actors_quarantined on actors (quarantined_at) where quarantined_at is not null;

-- A terminal actor never changes again (R3): the database refuses, whatever the code believes.
create function refuse_change_of_ended_actor() returns trigger language plpgsql as $$
begin
  raise exception 'actor % has ended (%) and cannot change', old.actor, old.state using errcode = 'GD001';
end $$;
create trigger actors_stay_ended before update on actors for each row
  when (old.status = 'done' and (new.status <> 'done' or new.snapshot is distinct from old.snapshot or new.state is distinct from old.state))
  execute function refuse_change_of_ended_actor();

-- Messages to actors, in the order of their ids. One message, one key: a duplicate of a waiting or a processed message is dropped.
create table mailbox (
  id          bigint generated always as identity primary key,
  actor       text not null,
  key         text not null,
  event       jsonb not null,
  sender      text not null,                          -- door, deadline, effect or actor it came from
  sent_at     timestamptz,                            -- the sender's own clock; never used for decisions
  enqueued_at timestamptz not null default now(),
  held        boolean not null default false,         -- its actor does not exist (yet) or is quarantined
  unique (actor, key)
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);
create index mailbox_ready on mailbox (id) where not held;
create index mailbox_held on mailbox (enqueued_at) where held;

-- What happened to each actor, in order. Folding the applied events from the latest checkpoint gives exactly the stored snapshot.
create table history (
  actor           text not null,
  seq             bigint not null,
  key             text not null,
  event           jsonb not null,                     -- as the machine saw it: stamped, and with the decision of its prepare step
  outcome         text not null check (outcome in ('applied', 'ignored', 'refused')),
  reason          text,
  from_state      text,
  to_state        text,
  machine_version integer not null,
  sender          text not null,
  sent_at         timestamptz,
  at              timestamptz not null,
  primary key (actor, seq)
);
create unique index history_key on history (actor, key);

-- Snapshots from which history is folded when it does not reach back to birth under one machine version.
create table checkpoints (
  actor           text not null,
  seq             bigint not null,
  machine_version integer not null,
  snapshot        jsonb not null,
  reason          text not null check (reason in ('migration', 'prune', 'rebuild')),
  at              timestamptz not null default now(),
  primary key (actor, seq)
);

-- The outbox: work outside the database, committed with the state that asked for it.
create table effects (
  effect_id   text primary key,                       -- actor:seq:index
  actor       text not null,
  seq         bigint not null,
  index       integer not null,
  type        text not null,
  lane        text not null,                          -- effects of one actor in one lane never overlap
  replaces    boolean not null,
  params      jsonb not null,
  status      text not null default 'pending' check (status in ('pending', 'done', 'failed', 'superseded')),
  attempts    integer not null default 0,
  next_at     timestamptz not null,
  lease_token uuid,
  lease_until timestamptz,
  last_error  text,
  created_at  timestamptz not null,
  ended_at    timestamptz
) with (fillfactor = 80);
create index effects_due on effects (next_at) where status = 'pending';
create index effects_lane on effects (actor, lane, seq, index) where status = 'pending';
create index effects_ended on effects (ended_at) where status <> 'pending';

-- Absolute times at which an actor gets an event. A fired row stays until its event is processed, which tells stale events from due ones.
create table deadlines (
  actor    text not null,
  name     text not null,
  due_at   timestamptz not null,
  set_seq  bigint not null,                           -- seq of the actor when it was set
  fired_at timestamptz,
  primary key (actor, name)
) with (fillfactor = 80);
create index deadlines_due on deadlines (due_at) where fired_at is null;

-- What could not be understood or processed, with its reason. Nothing is dropped silently.
create table dead_letters (
  id         bigint generated always as identity primary key,
  source     text not null check (source in ('queue', 'mailbox', 'effect')),
  queue      text,
  msg_id     bigint,
  actor      text,
  key        text,
  body       jsonb,                                   -- with secrets redacted; the queue's archive keeps the original
  code       text not null,
  field      text,
  reason     text not null,
  created_at timestamptz not null default now(),
  resolved   text check (resolved in ('replayed', 'dropped')),
  resolved_at timestamptz,
  unique (queue, msg_id)
);
create index dead_letters_open on dead_letters (created_at) where resolved is null;

-- Roles that one process at a time plays (the tracker), with a fencing token that rises at every change of holder.
create table leases (
  name   text primary key,
  holder text not null,
  token  bigint not null,
  until  timestamptz not null
);

-- Down Migration
drop table leases, dead_letters, deadlines, effects, checkpoints, history, mailbox, actors cascade;
drop function refuse_change_of_ended_actor();
