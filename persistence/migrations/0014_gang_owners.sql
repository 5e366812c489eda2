-- Up Migration

-- A gang is its owner's: who knows its id and is somebody else is of another gang. Each place in it is taken once.
alter table gang_members add column owner text;
alter table gang_members add column node_index integer;
update gang_members m set owner = r.user_id from reservations r where r.reservation_id = m.reservation_id;
-- Of two that took one place before, neither is turned out now.
with places as (
  select m.reservation_id, r.node_index, row_number() over (partition by m.gang_id, m.owner, r.node_index order by m.joined_at, m.reservation_id) as place
    from gang_members m join reservations r on r.reservation_id = m.reservation_id)
update gang_members m set node_index = p.node_index from places p where p.reservation_id = m.reservation_id and p.place = 1;
drop index gang_members_of;
create unique index gang_members_place on gang_members (gang_id, owner, node_index);

-- Down Migration
drop index gang_members_place;
create index gang_members_of on gang_members (gang_id);
alter table gang_members drop column owner, drop column node_index;
