-- Open cases that triggers were merged into; their rows are locked by this transaction.
update case_mgmt.cases c
set triggers = c.triggers + r.triggers, last_entry = r.last_entry, version = c.version + 1, changed_at = %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(platform_run_id text, case_id text, triggers integer, last_entry integer)
where c.platform_run_id = r.platform_run_id and c.case_id = r.case_id and c.status = 'OPEN'
