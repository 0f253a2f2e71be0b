-- What the producer sent, per output, and why the newest stream stopped.
with sent as (
  select output, count(distinct e)::int as n
  from wsp.journal cross join unnest(event_ids) as e
  where platform_run_id = %(run)s
  group by 1
), newest as (
  select outputs from wsp.streams where platform_run_id = %(run)s order by ordinal desc limit 1
)
select o."output", coalesce(s.n, 0), (select outputs -> o."output" ->> 'stop_reason' from newest)
from unnest(%(outputs)s::text[]) as o("output")
left join sent s on s.output = o."output"
