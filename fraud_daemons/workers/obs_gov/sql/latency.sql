-- Last part admitted -> decision durable, in milliseconds.
select round(percentile_cont(0.50) within group (order by ms)::numeric, 1)::float8 as p50,
       round(percentile_cont(0.95) within group (order by ms)::numeric, 1)::float8 as p95,
       round(percentile_cont(0.99) within group (order by ms)::numeric, 1)::float8 as p99
from (
  select 1000 * (extract(epoch from decided_at) - (convert_from(body, 'UTF8')::jsonb ->> 'admitted_at')::float8) as ms
  from df.decisions
  where platform_run_id = %(run)s
) as d
