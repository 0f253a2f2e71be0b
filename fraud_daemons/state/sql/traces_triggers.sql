-- Triggers by id, where each was put, and how that case stands.
select t.trigger_id, t.kind, t.reason, t.source_topic, t."partition", t."position", t.recorded_at,
       p.case_id, p.entry, c.status as case_status, c.disposition, c.opened_at
from case_trigger.triggers t
left join case_mgmt.placements p using (platform_run_id, trigger_id)
left join case_mgmt.cases c using (platform_run_id, case_id)
where t.platform_run_id = %(run)s and t.trigger_id = any(%(ids)s)
order by t.recorded_at, t.trigger_id
