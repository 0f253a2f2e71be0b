-- Last part admitted -> the stage's record durable on the bus, in milliseconds, over the run's newest records of each
-- partition: read from the head backwards by the key, so that a long run costs no more than a short one. The body is
-- searched and not parsed.
select count(*)::int as records,
       round(percentile_cont(0.50) within group (order by ms)::numeric, 1)::float8 as p50,
       round(percentile_cont(0.95) within group (order by ms)::numeric, 1)::float8 as p95,
       round(percentile_cont(0.99) within group (order by ms)::numeric, 1)::float8 as p99
from (
  select 1000 * (extract(epoch from newest.appended_at)
                 - substring(convert_from(newest.body, 'UTF8') from '"admitted_at":([0-9.]+)')::float8) as ms
  from bus.heads h
  cross join lateral (
    select l.appended_at, l.body from bus.log l
    where l.topic = h.topic and l."partition" = h."partition" and l.platform_run_id = %(run)s
    order by l."position" desc
    limit %(limit)s
  ) as newest
  where h.topic = %(topic)s
) as records
where ms is not null
