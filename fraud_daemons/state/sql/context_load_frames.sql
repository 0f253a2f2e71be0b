-- Frames by key, with the parts that are here; `limit 1` as in context_load_flows.sql.
select f.platform_run_id, f.scenario_run_id, f.frame_key, f.taken_by,
       f.arrival_event_id, f.arrival_hash, f.arrival_partition, f.arrival_position, f.arrival_appended_at, f.arrival_body,
       f.entities_event_id, f.entities_hash, f.entities_partition, f.entities_position, f.entities_appended_at,
       f.entities_body
from unnest(%(runs)b::text[], %(scenarios)b::text[], %(keys)b::text[]) as w(platform_run_id, scenario_run_id, frame_key)
cross join lateral (
  select *
  from csfb.frames
  where platform_run_id = w.platform_run_id and scenario_run_id = w.scenario_run_id and frame_key = w.frame_key
  limit 1
) f
