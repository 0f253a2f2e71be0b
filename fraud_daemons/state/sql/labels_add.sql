-- Insert the assertions that are new, in the order given; the ids that are new now.
insert into label_store.assertions
  (platform_run_id, label_id, flow_id, "type", "value", fraud_type, source, source_ref, source_event_id, effective_time,
   observed_time, recorded_at, supersedes, content_sha256)
select platform_run_id, label_id, flow_id, "type", "value", fraud_type, source, source_ref, source_event_id,
       effective_time, observed_time, recorded_at, supersedes, content_sha256
from jsonb_to_recordset(%(rows)s::jsonb) as r(
  platform_run_id text, label_id text, flow_id text, "type" text, "value" text, fraud_type text, source text,
  source_ref text, source_event_id text, effective_time timestamptz, observed_time timestamptz, recorded_at timestamptz,
  supersedes text, content_sha256 text
)
on conflict (platform_run_id, label_id) do nothing
returning platform_run_id, label_id
