-- One page of a run's cases, oldest first, behind the case `after`.
select case_id, subject_kind, subject, ordinal, status, assignee, disposition, triggers, last_entry, version, opened_at,
       changed_at
from case_mgmt.cases
where platform_run_id = %(run)s
  and (%(status)s::text is null or status = %(status)s::text)
  and (%(after)s::text is null or (opened_at, case_id) > (
    select opened_at, case_id from case_mgmt.cases where platform_run_id = %(run)s and case_id = %(after)s::text
  ))
order by opened_at, case_id
limit %(limit)s
