-- Intent received -> its outcome durable, in milliseconds.
select count(*)::int as records,
       round(percentile_cont(0.50) within group (order by ms)::numeric, 1)::float8 as p50,
       round(percentile_cont(0.95) within group (order by ms)::numeric, 1)::float8 as p95,
       round(percentile_cont(0.99) within group (order by ms)::numeric, 1)::float8 as p99
from (
  select 1000 * extract(epoch from o.completed_at - i.received_at) as ms
  from al.outcomes o
  join al.intents i using (platform_run_id, intent_id)
  where o.platform_run_id = %(run)s
) as outcomes
