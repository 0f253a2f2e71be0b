-- Runs that ended - another one began - before a moment and are not retired yet, oldest first, behind the run `after`, each
-- with its newest report, and whether one is asked for and not made.
select r.platform_run_id, p.verdict, p.object_key, p.reported_at, (p.body ->> 'caught_up')::boolean, p.body -> 'anchors',
       exists (
         select from reporter.requests q
         where q.platform_run_id = r.platform_run_id and not exists (
           select from reporter.reports o
           where o.platform_run_id = q.platform_run_id and o.request_id = q.request_id and o.state <> 'INTENT'
         )
       )
from (
  select platform_run_id, started_at, lead(started_at) over (order by started_at, platform_run_id) as ended_at
  from control.runs
) as r
left join lateral (
  select verdict, object_key, reported_at, convert_from(body, 'UTF8')::jsonb as body
  from reporter.reports
  where platform_run_id = r.platform_run_id and state = 'COMPLETE'
  order by reported_at desc
  limit 1
) as p on true
where r.ended_at <= %(ended_before)s
  and not exists (select from control.retired_runs t where t.platform_run_id = r.platform_run_id)
  and (%(after)s::text is null or (r.started_at, r.platform_run_id) >
       (select started_at, platform_run_id from control.runs where platform_run_id = %(after)s))
order by r.started_at, r.platform_run_id
limit %(limit)s
