-- Triggers placed before that now came with other content.
insert into case_mgmt.conflicts as c (platform_run_id, trigger_id, content_sha256, body, recorded_at)
select platform_run_id, trigger_id, content_sha256, body, %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(platform_run_id text, trigger_id text, content_sha256 text, body jsonb)
on conflict (platform_run_id, trigger_id, content_sha256) do update set seen = c.seen + 1
