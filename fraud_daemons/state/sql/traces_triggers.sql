-- Triggers by id.
select trigger_id, kind, reason, source_topic, "partition", "position", recorded_at
from case_trigger.triggers
where platform_run_id = %(run)s and trigger_id = any(%(ids)s)
order by recorded_at, trigger_id
