-- Of a run's newest decisions: how many, by outcome, and seconds from the last part admitted to the decision durable.
with newest as (
  select outcome,
         extract(epoch from decided_at)::float8 - (convert_from(body, 'UTF8')::jsonb ->> 'admitted_at')::float8 as seconds
  from df.decisions
  where platform_run_id = %(run)s
  order by decided_at desc, decision_id desc
  limit %(limit)s
)
select (select count(*) from newest),
       (select jsonb_object_agg(outcome, n) from (select outcome, count(*) as n from newest group by outcome) as o),
       percentile_cont(0.5) within group (order by seconds),
       percentile_cont(0.95) within group (order by seconds),
       percentile_cont(0.99) within group (order by seconds)
from newest
