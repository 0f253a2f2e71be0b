-- One person's change: takes the next entry number under the row's lock. No row = gone, resolved, or another version.
update case_mgmt.cases
set last_entry = last_entry + 1,
    version = version + 1,
    changed_at = %(at)s,
    assignee = case when %(kind)s = 'ASSIGNED' then %(assignee)s::text else assignee end,
    status = case when %(kind)s = 'RESOLVED' then 'RESOLVED' else status end,
    disposition = case when %(kind)s = 'RESOLVED' then %(disposition)s::text else disposition end
where platform_run_id = %(run)s and case_id = %(case)s and status = 'OPEN'
  and (%(version)s::bigint is null or version = %(version)s::bigint)
returning last_entry
