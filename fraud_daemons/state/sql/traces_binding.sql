-- How a flow left the context store, and where its parts stand on the bus: [partition, position], null for one that did not come.
select scenario_run_id, event_id, occurred_at, source_seq, context_status, release_rule, frame_key, bound_at,
       jsonb_build_object(
         'traffic', jsonb_build_array(traffic_partition, traffic_position),
         'arrival_events', case when arrival_events_position is not null
                                then jsonb_build_array(arrival_events_partition, arrival_events_position) end,
         'arrival_entities', case when arrival_entities_position is not null
                                  then jsonb_build_array(arrival_entities_partition, arrival_entities_position) end,
         'flow_anchors', case when flow_anchors_position is not null
                              then jsonb_build_array(flow_anchors_partition, flow_anchors_position) end
       ) as sources
from csfb.bindings
where platform_run_id = %(run)s and flow_id = %(flow)s
