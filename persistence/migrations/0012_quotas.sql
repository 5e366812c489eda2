-- Up Migration

-- How much one user may have at the same time. The row of '*' is for all who have none of their own; null is no limit.
create table quotas (
  user_id          text primary key,
  max_reservations integer check (max_reservations >= 0),
  max_gpus         integer check (max_gpus >= 0),
  reason           text,
  set_by           text not null,
  set_at           timestamptz not null default now()
);
insert into quotas (user_id, max_reservations, max_gpus, set_by) values ('*', 20, 64, 'default');

-- What counts: every reservation from the moment it is accepted until it has ended. A door writes its row with the message that becomes the
-- reservation; one that came by another way is counted when it is born.
create table quota_claims (
  reservation_id text primary key,
  user_id        text not null,
  gpus           integer not null,
  gang_id        text,
  claimed_at     timestamptz not null default now()
);
create index quota_claims_by_user on quota_claims (user_id);
create index quota_claims_by_age on quota_claims (claimed_at);

insert into quota_claims (reservation_id, user_id, gpus, gang_id)
select reservation_id, user_id, gpu_count, master_reservation_id from reservations where reservation_ended is null;

create function count_reservation() returns trigger language plpgsql as $$
begin
  if new.reservation_ended is null then
    insert into quota_claims (reservation_id, user_id, gpus, gang_id)
    values (new.reservation_id, new.user_id, new.gpu_count, new.master_reservation_id)
    on conflict (reservation_id) do nothing;
  else
    delete from quota_claims where reservation_id = new.reservation_id;
  end if;
  return null;
end $$;
create trigger reservation_counts after insert on reservations for each row execute function count_reservation();
create trigger reservation_counts_no_more after update on reservations for each row
  when (old.reservation_ended is null and new.reservation_ended is not null) execute function count_reservation();

-- Down Migration
drop trigger reservation_counts on reservations;
drop trigger reservation_counts_no_more on reservations;
drop function count_reservation();
drop table quota_claims, quotas;
