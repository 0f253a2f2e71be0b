-- Named terms: what an equation must not hide in a difference.
select 'dead_lettered' as term, count(*)::int as records
from dead_letters.letters where platform_run_id = %(run)s and state <> 'REDRIVEN'
union all
select 'conflicts', (
  (select count(*) from ig.quarantine where platform_run_id = %(run)s and reason = 'PAYLOAD_HASH_MISMATCH')
  + (select count(*) from csfb.anomalies where platform_run_id = %(run)s)
  + (select count(*) from df.conflicts where platform_run_id = %(run)s)
  + (select count(*) from al.conflicts where platform_run_id = %(run)s)
  + (select count(*) from dla.conflicts where platform_run_id = %(run)s)
  + (select count(*) from case_trigger.conflicts where platform_run_id = %(run)s)
  + (select count(*) from case_mgmt.conflicts where platform_run_id = %(run)s)
  + (select count(*) from label_store.conflicts where platform_run_id = %(run)s)
)::int
union all
select 'decided_without_features', count(*)::int
from df.decisions where platform_run_id = %(run)s and feature_status = 'ABSENT'
union all
select 'late_features', count(*)::int from df.late_features where platform_run_id = %(run)s
union all
select 'repeats_absorbed', coalesce(sum(repeats), 0)::int from ig.repeats where platform_run_id = %(run)s
union all
select 'bound_partial_or_missing', count(*)::int
from csfb.bindings where platform_run_id = %(run)s and context_status <> 'COMPLETE'
