-- Of assertions that were there before, keep those whose content differs from what is stored.
insert into label_store.conflicts as c (platform_run_id, label_id, content_sha256, body, recorded_at)
select platform_run_id, label_id, r.content_sha256, r.body, %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(platform_run_id text, label_id text, content_sha256 text, body jsonb)
join label_store.assertions a using (platform_run_id, label_id)
where a.content_sha256 <> r.content_sha256
on conflict (platform_run_id, label_id, content_sha256) do update set seen = c.seen + 1
