-- Decision read -> its audit chain closed, in milliseconds.
select count(*)::int as records,
       round(percentile_cont(0.50) within group (order by ms)::numeric, 1)::float8 as p50,
       round(percentile_cont(0.95) within group (order by ms)::numeric, 1)::float8 as p95,
       round(percentile_cont(0.99) within group (order by ms)::numeric, 1)::float8 as p99
from (
  select 1000 * extract(epoch from closed_at - opened_at) as ms
  from dla.chains
  where platform_run_id = %(run)s and state = 'CLOSED'
) as chains
