-- What each producer sent to the gate and how it was answered, per event type; marks are no events.
select producer, event_type, sum(admitted)::int, sum(repeats)::int, sum(quarantined)::int
from (
  select producer, event_type, count(*) as admitted, 0 as repeats, 0 as quarantined
  from ig.admissions
  where hashtextextended(platform_run_id, 0) = hashtextextended(%(run)s, 0) and platform_run_id = %(run)s group by 1, 2
  union all
  select producer, event_type, 0, sum(repeats), 0 from ig.repeats where platform_run_id = %(run)s group by 1, 2
  union all
  select producer, event_type, 0, 0, count(*) from ig.quarantine where platform_run_id = %(run)s group by 1, 2
) as answers
where event_type <> 'progress_mark'
group by 1, 2
order by 1, 2
