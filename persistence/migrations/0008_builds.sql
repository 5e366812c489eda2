-- Up Migration

-- Tokens with which a build's pod fetches its context, once each; only their SHA-256 is kept.
create table build_tokens (
  token_hash text primary key,
  hash       text not null,
  attempt    integer not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at    timestamptz
);
create index build_tokens_expired on build_tokens (expires_at);

-- What builds wrote, line by line, without secrets. A line's key is its own time and its place among those of that time.
create table build_lines (
  id      bigint generated always as identity primary key,
  hash    text not null,
  attempt integer not null,
  at      text not null,
  n       integer not null,
  line    text not null,
  kept_at timestamptz not null default now(),
  unique (hash, attempt, at, n)
);
create index build_lines_kept on build_lines (kept_at);
create index build_lines_of on build_lines (hash, attempt, id);

-- Down Migration
drop table build_lines, build_tokens;
