-- Last part admitted -> the stage's record durable on the bus, in milliseconds, over the run's newest records of the topic.
-- The body is searched and not parsed: of a run with a million records this is what a report can afford.
select count(*)::int as records,
       round(percentile_cont(0.50) within group (order by ms)::numeric, 1)::float8 as p50,
       round(percentile_cont(0.95) within group (order by ms)::numeric, 1)::float8 as p95,
       round(percentile_cont(0.99) within group (order by ms)::numeric, 1)::float8 as p99
from (
  select 1000 * (extract(epoch from appended_at)
                 - substring(convert_from(body, 'UTF8') from '"admitted_at":([0-9.]+)')::float8) as ms
  from (
    select appended_at, body from bus.log
    where topic = %(topic)s and platform_run_id = %(run)s
    order by appended_at desc
    limit %(limit)s
  ) as newest
) as records
where ms is not null
