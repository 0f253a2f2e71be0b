-- One streamed run: decided, seconds from its first POST to its last durable record, seconds of admission, latency.
with span as (
  select extract(epoch from min(s.started_at)) as first_post from wsp.streams s where s.platform_run_id = %(run)s
), last as (
  select extract(epoch from max(appended_at)) as durable from bus.log where platform_run_id = %(run)s
), gate as (
  select extract(epoch from max(admitted_at)) as admitted from ig.admissions where platform_run_id = %(run)s
), latency as (
  select count(*) as decided,
         percentile_cont(array[0.5, 0.95, 0.99]) within group (
           order by 1000 * (extract(epoch from decided_at) - (convert_from(body, 'UTF8')::jsonb ->> 'admitted_at')::float8)
         ) as ms
  from df.decisions
  where platform_run_id = %(run)s
)
select decided, (durable - first_post)::float8, (admitted - first_post)::float8,
       round(ms[1]::numeric, 1)::float8, round(ms[2]::numeric, 1)::float8, round(ms[3]::numeric, 1)::float8
from span, last, gate, latency
