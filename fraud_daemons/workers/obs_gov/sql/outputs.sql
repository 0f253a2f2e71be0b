-- What was sent and what became of it, per output; why the newest stream stopped.
with outputs("output") as (
  values ('traffic'), ('arrival_events'), ('arrival_entities'), ('flow_anchors'), ('truth')
), sent as (
  select output as "output", count(distinct e) as n
  from wsp.journal cross join unnest(event_ids) as e
  where platform_run_id = %(run)s
  group by 1
), admitted as (
  select event_type as "output", count(*) as n from ig.admissions where platform_run_id = %(run)s group by 1
), repeats as (
  select event_type as "output", sum(repeats) as n from ig.repeats where platform_run_id = %(run)s group by 1
), quarantined as (
  select event_type as "output", count(*) as n from ig.quarantine where platform_run_id = %(run)s group by 1
), newest as (
  select outputs from wsp.streams where platform_run_id = %(run)s order by ordinal desc limit 1
)
select o."output" as output, coalesce(s.n, 0)::int as sent, coalesce(a.n, 0)::int as admitted,
       coalesce(r.n, 0)::int as duplicate, coalesce(q.n, 0)::int as quarantined,
       (select outputs -> o."output" ->> 'stop_reason' from newest) as stop_reason
from outputs o
left join sent s using ("output")
left join admitted a using ("output")
left join repeats r using ("output")
left join quarantined q using ("output")
