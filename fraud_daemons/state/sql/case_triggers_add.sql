-- Insert what is new, in the order given; the ids that are new now.
insert into case_trigger.triggers
  (platform_run_id, trigger_id, kind, source_id, subject_kind, subject, decision_id, flow_id, outcome, reason, occurred_at,
   source_seq, content_sha256, source_topic, "partition", "position", recorded_at)
select platform_run_id, trigger_id, kind, source_id, subject_kind, subject, decision_id, flow_id, outcome, reason, occurred_at,
       source_seq, content_sha256, source_topic, "partition", "position", %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(
  platform_run_id text, trigger_id text, kind text, source_id text, subject_kind text, subject text, decision_id text, flow_id text,
  outcome text, reason text, occurred_at timestamptz, source_seq bigint, content_sha256 text, source_topic text,
  "partition" integer, "position" bigint
)
on conflict (platform_run_id, trigger_id) do nothing
returning platform_run_id, trigger_id
