-- A page of a run's assertions in the order in which they became known, behind the label `after`.
select label_id, flow_id, "type", "value", fraud_type, source, source_ref, effective_time, observed_time, recorded_at,
       supersedes
from label_store.assertions
where platform_run_id = %(run)s
  and (%(at)s::timestamptz is null or observed_time <= %(at)s::timestamptz)
  and (%(label_type)s::text is null or "type" = %(label_type)s::text)
  and (%(value)s::text is null or "value" = %(value)s::text)
  and (%(source)s::text is null or source = %(source)s::text)
  and (%(flow)s::text is null or flow_id = %(flow)s::text)
  and (%(after)s::text is null or (observed_time, label_id) > (
    select observed_time, label_id from label_store.assertions
    where platform_run_id = %(run)s and label_id = %(after)s::text
  ))
order by observed_time, label_id
limit %(limit)s
