-- Placements and timeline entries of one batch, together.
with entries as (
  select platform_run_id, case_id, entry, kind, trigger_id, content_sha256, body
  from jsonb_to_recordset(%(rows)s::jsonb) as r(
    platform_run_id text, case_id text, entry integer, kind text, trigger_id text, content_sha256 text, body jsonb
  )
), placed as (
  insert into case_mgmt.placements (platform_run_id, trigger_id, case_id, entry, content_sha256)
  select platform_run_id, trigger_id, case_id, entry, content_sha256 from entries
)
insert into case_mgmt.timeline (platform_run_id, case_id, entry, kind, body, recorded_at)
select platform_run_id, case_id, entry, kind, body, %(at)s from entries
