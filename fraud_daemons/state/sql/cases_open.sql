-- New cases. Fewer rows than asked for = somebody opened a case of that subject meanwhile.
insert into case_mgmt.cases
  (platform_run_id, case_id, subject_kind, subject, ordinal, triggers, last_entry, opened_at, changed_at)
select platform_run_id, case_id, subject_kind, subject, ordinal, triggers, last_entry, %(at)s, %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(
  platform_run_id text, case_id text, subject_kind text, subject text, ordinal integer, triggers integer, last_entry integer
)
on conflict do nothing
