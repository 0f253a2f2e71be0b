-- How the gate answered, per event type: admitted, duplicate, quarantined.
select event_type, sum(admitted)::int, sum(repeats)::int, sum(quarantined)::int
from (
  select event_type, count(*) as admitted, 0 as repeats, 0 as quarantined
  from ig.admissions
  where hashtextextended(platform_run_id, 0) = hashtextextended(%(run)s, 0) and platform_run_id = %(run)s group by 1
  union all
  select event_type, 0, sum(repeats), 0 from ig.repeats where platform_run_id = %(run)s group by 1
  union all
  -- what was admitted at a redrive is admitted, and refused no more
  select event_type, 0, 0, count(*) from ig.quarantine q where platform_run_id = %(run)s
    and not exists (
      select from ig.redrives r where r.quarantine_id = q.quarantine_id and r.outcome = 'ADMITTED'
    ) group by 1
) as answers
group by 1
