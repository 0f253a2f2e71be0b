-- Progress marks not forwarded before, by the partition of the truth feed they stand on.
insert into label_store.marks
  (platform_run_id, event_id, "partition", up_to_occurred_at, up_to_source_seq, end_of_world, forwarded_at)
select platform_run_id, event_id, "partition", up_to_occurred_at, up_to_source_seq, end_of_world, %(at)s
from jsonb_to_recordset(%(rows)s::jsonb) as r(
  platform_run_id text, event_id text, "partition" integer, up_to_occurred_at timestamptz, up_to_source_seq bigint,
  end_of_world boolean
)
on conflict do nothing
returning platform_run_id, event_id, "partition"
