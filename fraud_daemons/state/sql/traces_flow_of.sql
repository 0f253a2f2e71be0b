-- The flow behind an id: itself, its decision, an intent, a trigger, a label or the truth event behind one.
select flow_id
from (
  select 1 as rank, flow_id from csfb.bindings where platform_run_id = %(run)s and flow_id = %(id)s
  union all
  select 2, flow_id from df.decisions where platform_run_id = %(run)s and flow_id = %(id)s
  union all
  select 3, flow_id from df.decisions where platform_run_id = %(run)s and decision_id = %(id)s
  union all
  select 4, flow_id from csfb.pending where platform_run_id = %(run)s and flow_id = %(id)s
  union all
  select 5, flow_id from csfb.anchors where platform_run_id = %(run)s and flow_id = %(id)s
  union all
  select 6, flow_id from al.intents where platform_run_id = %(run)s and intent_id = %(id)s
  union all
  select 7, flow_id from case_trigger.triggers where platform_run_id = %(run)s and trigger_id = %(id)s
  union all
  (select 8, flow_id from label_store.assertions where platform_run_id = %(run)s and flow_id = %(id)s limit 1)
  union all
  select 9, flow_id from label_store.assertions where platform_run_id = %(run)s and label_id = %(id)s
) found
order by rank
limit 1
