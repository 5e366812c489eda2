-- Up Migration

-- What the ledger and the queue add up to, kept by triggers: a pool reads it at every turn, and thousands of held slots or a hundred thousand
-- waiting must not slow that turn. The rows they are counted from stay the truth; whoever writes those, by hand too, keeps these right.

-- Of each node: which slots are free, how many are held, and what is promised of its CPU and memory.
create table node_usage (
  node         text primary key,
  free         integer[] not null default '{}',
  held         integer not null default 0,
  cpu_millis   bigint not null default 0,
  memory_bytes bigint not null default 0
) with (fillfactor = 50);

-- Of each GPU type: how many wait.
create table line_lengths (
  gpu_type text primary key,
  waiting  integer not null default 0
) with (fillfactor = 20);

create function count_slots() returns trigger language plpgsql as $$
declare
  touched text[];
begin
  select array_agg(distinct node order by node) into touched from changed;
  if touched is null then return null; end if;
  insert into node_usage (node) select unnest(touched) on conflict do nothing;
  -- Held before it is counted: the count must see what another transaction did to the same node.
  perform 1 from node_usage where node = any(touched) order by node for update;
  update node_usage u set free = c.free, held = c.held
    from (select t.node, coalesce(array_agg(s.slot order by s.slot) filter (where s.slot is not null and s.reservation_id is null), '{}') as free,
                 count(s.reservation_id) as held, count(s.slot) as slots
            from unnest(touched) as t(node) left join gpu_slots s on s.node = t.node
           group by t.node) c
   where u.node = c.node and (u.free, u.held) is distinct from (c.free, c.held::integer);
  if tg_op = 'DELETE' then
    delete from node_usage u
     where u.node = any(touched) and u.cpu_millis = 0 and u.memory_bytes = 0 and not exists (select 1 from gpu_slots s where s.node = u.node);
  end if;
  return null;
end $$;
create trigger gpu_slots_count_insert after insert on gpu_slots referencing new table as changed
  for each statement execute function count_slots();
create trigger gpu_slots_count_update after update on gpu_slots referencing new table as changed
  for each statement execute function count_slots();
create trigger gpu_slots_count_delete after delete on gpu_slots referencing old table as changed
  for each statement execute function count_slots();

create function count_requests() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    insert into line_lengths as l (gpu_type, waiting)
    select gpu_type, count(*) from added where status = 'waiting' group by gpu_type order by gpu_type
    on conflict (gpu_type) do update set waiting = l.waiting + excluded.waiting;
    insert into node_usage as u (node, cpu_millis, memory_bytes)
    select node, sum(cpu_millis), sum(memory_bytes) from added where status = 'granted' group by node order by node
    on conflict (node) do update
      set cpu_millis = u.cpu_millis + excluded.cpu_millis, memory_bytes = u.memory_bytes + excluded.memory_bytes;
  elsif tg_op = 'DELETE' then
    update line_lengths l set waiting = l.waiting - c.gone
      from (select gpu_type, count(*) as gone from removed where status = 'waiting' group by gpu_type) c where l.gpu_type = c.gpu_type;
    update node_usage u set cpu_millis = u.cpu_millis - c.cpu, memory_bytes = u.memory_bytes - c.memory
      from (select node, sum(cpu_millis) as cpu, sum(memory_bytes) as memory from removed where status = 'granted' group by node) c
     where u.node = c.node;
  else
    insert into line_lengths as l (gpu_type, waiting)
    select gpu_type, sum(sign)
      from (select gpu_type, 1 as sign from added where status = 'waiting'
            union all select gpu_type, -1 from removed where status = 'waiting') c
     group by gpu_type having sum(sign) <> 0 order by gpu_type
    on conflict (gpu_type) do update set waiting = l.waiting + excluded.waiting;
    insert into node_usage as u (node, cpu_millis, memory_bytes)
    select node, sum(cpu), sum(memory)
      from (select node, cpu_millis as cpu, memory_bytes as memory from added where status = 'granted'
            union all select node, -cpu_millis, -memory_bytes from removed where status = 'granted') c
     group by node having sum(cpu) <> 0 or sum(memory) <> 0 order by node
    on conflict (node) do update
      set cpu_millis = u.cpu_millis + excluded.cpu_millis, memory_bytes = u.memory_bytes + excluded.memory_bytes;
  end if;
  return null;
end $$;
create trigger capacity_requests_count_insert after insert on capacity_requests referencing new table as added
  for each statement execute function count_requests();
create trigger capacity_requests_count_update after update on capacity_requests referencing old table as removed new table as added
  for each statement execute function count_requests();
create trigger capacity_requests_count_delete after delete on capacity_requests referencing old table as removed
  for each statement execute function count_requests();

insert into node_usage (node, free, held, cpu_millis, memory_bytes)
select node, coalesce(s.free, '{}'), coalesce(s.held, 0), coalesce(r.cpu, 0), coalesce(r.memory, 0)
  from (select node, array_agg(slot order by slot) filter (where reservation_id is null) as free, count(reservation_id) as held
          from gpu_slots group by node) s
  full join (select node, sum(cpu_millis) as cpu, sum(memory_bytes) as memory
               from capacity_requests where status = 'granted' group by node) r using (node);
insert into line_lengths (gpu_type, waiting)
select gpu_type, count(*) from capacity_requests where status = 'waiting' group by gpu_type;

-- Members of a gang that hold slots, and that wait; requests that tell why they wait.
create index capacity_requests_gangs_waiting on capacity_requests (gang_id) where gang_id is not null and status = 'waiting';
create index capacity_requests_gangs on capacity_requests (gang_id) where gang_id is not null and status = 'granted';
create index capacity_requests_explained on capacity_requests (gpu_type) where status = 'waiting' and waits_because is not null;

-- Rises with each change of the catalogue, so that what was read of it can be kept until then.
create table catalogue_version (version bigint not null);
insert into catalogue_version values (1);
create function catalogue_changed() returns trigger language plpgsql as $$
begin
  update catalogue_version set version = version + 1;
  return null;
end $$;
create trigger gpu_types_changed after insert or update or delete on gpu_types
  for each statement execute function catalogue_changed();

-- Down Migration
drop trigger gpu_types_changed on gpu_types;
drop function catalogue_changed();
drop table catalogue_version;
drop index capacity_requests_explained;
drop index capacity_requests_gangs;
drop index capacity_requests_gangs_waiting;
drop trigger capacity_requests_count_insert on capacity_requests;
drop trigger capacity_requests_count_update on capacity_requests;
drop trigger capacity_requests_count_delete on capacity_requests;
drop function count_requests();
drop trigger gpu_slots_count_insert on gpu_slots;
drop trigger gpu_slots_count_update on gpu_slots;
drop trigger gpu_slots_count_delete on gpu_slots;
drop function count_slots();
drop table line_lengths;
drop table node_usage;
