-- Which of these triggers have been placed before, and with which content.
select p.platform_run_id, p.trigger_id, p.content_sha256
from unnest(%(runs)s::text[], %(triggers)s::text[]) as w(platform_run_id, trigger_id)
join case_mgmt.placements p using (platform_run_id, trigger_id)
