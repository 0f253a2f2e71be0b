-- The latest case of each subject, locked in the order of the subjects given (sorted, so that two never wait in a circle).
select c.platform_run_id, c.subject_kind, c.subject, c.case_id, c.ordinal, c.status, c.last_entry, c.version
from unnest(%(runs)s::text[], %(kinds)s::text[], %(subjects)s::text[]) as w(platform_run_id, subject_kind, subject)
cross join lateral (
  select *
  from case_mgmt.cases
  where platform_run_id = w.platform_run_id and subject_kind = w.subject_kind and subject = w.subject
  order by ordinal desc
  limit 1
  for update
) c
