-- Up Migration

-- What the cluster has and no living actor wants, and what actors believe in and the cluster lacks. One open row an object.
create table reality_findings (
  id         bigint generated always as identity primary key,
  kind       text not null,                           -- as Kubernetes calls it
  name       text not null,
  uid        text not null,                           -- empty for what is missing
  actor      text,                                    -- whose it is, as far as its labels say
  verdict    text not null check (verdict in ('ended', 'unknown', 'unrecorded', 'missing')),
  why        text not null,
  first_seen timestamptz not null,
  last_seen  timestamptz not null,
  done       text not null default 'reported' check (done in ('reported', 'removed', 'told')),
  done_at    timestamptz,
  closed_at  timestamptz                              -- since then it is as it should be
);
create unique index reality_findings_open on reality_findings (kind, name, uid) where closed_at is null;
create index reality_findings_closed on reality_findings (closed_at) where closed_at is not null;

-- Comparisons of the database with the cluster: those that were asked for wait here for whoever has the rights.
create table reality_runs (
  id           uuid primary key,
  dry_run      boolean not null,
  asked_by     text not null,
  requested_at timestamptz not null default now(),
  started_at   timestamptz,
  ended_at     timestamptz,
  error        text,
  report       jsonb,
  check (ended_at is null or started_at is not null)
);
create index reality_runs_waiting on reality_runs (requested_at) where ended_at is null;
create index reality_runs_ended on reality_runs (ended_at) where ended_at is not null;

-- Down Migration
drop table reality_runs, reality_findings;
