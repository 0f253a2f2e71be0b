-- One page of a run's cases, oldest first, behind the case `after`.
select case_id, subject_kind, subject, ordinal, status, assignee, disposition, triggers, last_entry, version, opened_at,
       changed_at
from case_mgmt.cases
where platform_run_id = %(run)s
  and (%(status)s::text is null or status = %(status)s::text)
  and (%(disposition)s::text is null or disposition = %(disposition)s::text)
  and (%(assignee)s::text is null or coalesce(assignee, '') = %(assignee)s::text)
  and (%(subject)s::text is null or subject = %(subject)s::text)
  and (%(after)s::text is null or (opened_at, case_id) > (
    select opened_at, case_id from case_mgmt.cases where platform_run_id = %(run)s and case_id = %(after)s::text
  ))
order by opened_at, case_id
limit %(limit)s
