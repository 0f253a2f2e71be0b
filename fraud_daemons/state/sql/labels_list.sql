-- A page of a run's assertions in the order in which they became known, behind the label `after`.
select label_id, flow_id, "type", "value", fraud_type, source, source_ref, effective_time, observed_time, recorded_at,
       supersedes
from label_store.assertions
where platform_run_id = %(run)s
  and (%(at)s::timestamptz is null or observed_time <= %(at)s::timestamptz)
  and (%(after)s::text is null or (observed_time, label_id) > (
    select observed_time, label_id from label_store.assertions
    where platform_run_id = %(run)s and label_id = %(after)s::text
  ))
order by observed_time, label_id
limit %(limit)s
