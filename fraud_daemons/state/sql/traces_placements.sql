-- Where triggers were put, and how each case stands.
select p.trigger_id, p.case_id, p.entry, c.status as case_status, c.disposition, c.opened_at
from case_mgmt.placements p
join case_mgmt.cases c using (platform_run_id, case_id)
where p.platform_run_id = %(run)s and p.trigger_id = any(%(ids)s)
