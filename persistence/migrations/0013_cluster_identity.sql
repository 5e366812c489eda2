-- Up Migration

-- Which cluster, and which namespace of it, this database commands: what another one lacks proves nothing. One present row; those before it
-- stay, with the word by which they were replaced.
create table cluster_identity (
  id            bigint generated always as identity primary key,
  namespace_uid text not null,                        -- of the namespace of the dev servers: it is new when the namespace is made anew
  namespace     text,                                 -- null until a service has met it
  system_uid    text,                                 -- of kube-system, where it may be read
  server        text,                                 -- for people: an address may change
  since         timestamptz not null default now(),
  accepted_by   text,                                 -- null for the first one, which was taken as it was met
  reason        text,
  replaced_at   timestamptz
);
create unique index cluster_identity_present on cluster_identity ((true)) where replaced_at is null;

-- Pods that vanished without anybody seeing them deleted: those that were told of lately, and those that wait for the word of an operator,
-- since too many vanished at once to be believed.
create table vanished_pods (
  pod_uid        text primary key,
  reservation_id text not null,
  missed_at      timestamptz not null default now(),
  told_at        timestamptz,                         -- since then its reservation knows
  accepted_by    text,
  reason         text,
  check ((accepted_by is null) = (reason is null))
);

-- Down Migration
drop table vanished_pods, cluster_identity;
