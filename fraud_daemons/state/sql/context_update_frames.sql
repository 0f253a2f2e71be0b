-- Frames that were here already and have gained a part, or a flow that left with them.
update csfb.frames f
set taken_by = u.taken_by,
    arrival_event_id = u.arrival_event_id, arrival_hash = u.arrival_hash, arrival_partition = u.arrival_partition,
    arrival_position = u.arrival_position, arrival_appended_at = u.arrival_appended_at, arrival_body = u.arrival_body,
    entities_event_id = u.entities_event_id, entities_hash = u.entities_hash, entities_partition = u.entities_partition,
    entities_position = u.entities_position, entities_appended_at = u.entities_appended_at, entities_body = u.entities_body
from unnest(%b::text[], %b::text[], %b::text[], %b::text[],
            %b::text[], %b::bytea[], %b::integer[], %b::bigint[], %b::float8[], %b::bytea[],
            %b::text[], %b::bytea[], %b::integer[], %b::bigint[], %b::float8[], %b::bytea[])
  as u(platform_run_id, scenario_run_id, frame_key, taken_by,
       arrival_event_id, arrival_hash, arrival_partition, arrival_position, arrival_appended_at, arrival_body,
       entities_event_id, entities_hash, entities_partition, entities_position, entities_appended_at, entities_body)
where f.platform_run_id = u.platform_run_id and f.scenario_run_id = u.scenario_run_id and f.frame_key = u.frame_key
