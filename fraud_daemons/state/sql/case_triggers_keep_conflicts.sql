-- Of triggers that were there before, keep those whose content differs from what is stored.
insert into case_trigger.conflicts as c (platform_run_id, trigger_id, content_sha256, body, recorded_at)
select platform_run_id, trigger_id, r.content_sha256, r.body, %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(platform_run_id text, trigger_id text, content_sha256 text, body jsonb)
join case_trigger.triggers t using (platform_run_id, trigger_id)
where t.content_sha256 <> r.content_sha256
on conflict (platform_run_id, trigger_id, content_sha256) do update set seen = c.seen + 1
