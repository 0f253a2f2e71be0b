-- One streamed run: decided, and the latency from the last part admitted to the durable decision.
select decided, round(ms[1]::numeric, 1)::float8, round(ms[2]::numeric, 1)::float8, round(ms[3]::numeric, 1)::float8
from (
  select count(*) as decided,
         percentile_cont(array[0.5, 0.95, 0.99]) within group (
           order by 1000 * (extract(epoch from decided_at) - (convert_from(body, 'UTF8')::jsonb ->> 'admitted_at')::float8)
         ) as ms
  from df.decisions
  where platform_run_id = %(run)s
) as latency
