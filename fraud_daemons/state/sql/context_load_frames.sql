-- Frames by key, with the parts that are here.
select f.platform_run_id, f.scenario_run_id, f.frame_key, f.taken_by,
       f.arrival_event_id, f.arrival_hash, f.arrival_partition, f.arrival_position, f.arrival_appended_at, f.arrival_body,
       f.entities_event_id, f.entities_hash, f.entities_partition, f.entities_position, f.entities_appended_at,
       f.entities_body
from unnest(%(runs)b::text[], %(scenarios)b::text[], %(keys)b::text[]) as w(platform_run_id, scenario_run_id, frame_key)
join csfb.frames f using (platform_run_id, scenario_run_id, frame_key)
