-- Up Migration

-- The domain under which servers get names. Whoever works writes it, so that every process that takes turns says the same of it.
create table served_domain (
  one        boolean primary key default true check (one),
  domain     text not null check (domain ~ '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$'),
  updated_at timestamptz not null default now()
);

-- What was asked of DNS stands here before it is asked, and goes when it is proven that nothing of it is left. A name whose owner has ended
-- stays taken until then.
alter table domain_mappings
  add column fqdn         text,                        -- null: nothing of ours stands in DNS
  add column zone         text,
  add column published_at timestamptz,
  add column freed_at     timestamptz,                 -- since then its owner needs it no more
  add column problem      text,                        -- why the last try failed
  add constraint domain_mappings_place check ((fqdn is null) = (zone is null)),
  add constraint domain_mappings_published check (published_at is null or fqdn is not null);
create unique index domain_mappings_fqdn on domain_mappings (zone, fqdn) where fqdn is not null;

-- The same for ways to Jupyter. A place on a listener is a rule's priority, or the port of a listener of its own.
alter table alb_target_groups
  add column load_balancer text not null default '',
  add column place         integer check (place between 1 and 65535),
  add column node          text,
  add column node_port     integer,
  add column published_at  timestamptz,
  add column problem       text;
create unique index alb_target_groups_place on alb_target_groups (load_balancer, place) where place is not null;

-- Down Migration
drop index alb_target_groups_place, domain_mappings_fqdn;
alter table alb_target_groups
  drop column problem, drop column published_at, drop column node_port, drop column node, drop column place, drop column load_balancer;
alter table domain_mappings
  drop constraint domain_mappings_published, drop constraint domain_mappings_place,
  drop column problem, drop column freed_at, drop column published_at, drop column zone, drop column fqdn;
drop table served_domain;
