-- A page of a run's refused events, and whether each went through the gate later.
select quarantine_id, event_id, event_type, reason, detail, producer, seen, quarantined_at, redriven
from ig.quarantine q
cross join lateral (
  select exists (
    select from ig.redrives r where r.quarantine_id = q.quarantine_id and r.outcome in ('ADMITTED', 'DUPLICATE')
  ) as redriven
) r
where platform_run_id = %(run)s
  and (%(reason)s::text is null or reason = %(reason)s::text)
  and (%(event_type)s::text is null or event_type = %(event_type)s::text)
  and (%(redriven)s::boolean is null or redriven = %(redriven)s::boolean)
  and (%(after)s::text is null or quarantine_id > %(after)s::text)
order by quarantine_id
limit %(limit)s
