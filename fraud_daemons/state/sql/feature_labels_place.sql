-- Labels that were there before their flow get its place.
update ofp.labels l
set state = case when f.entity is null then 'NO_PLACE' else 'APPLIED' end, entity = f.entity,
    occurred_at_microseconds = f.occurred_at_microseconds, source_seq = f.source_seq
from unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[])
  as f(platform_run_id, flow_id, entity, occurred_at_microseconds, source_seq)
where l.platform_run_id = f.platform_run_id and l.flow_id = f.flow_id and l.state = 'WAITING'
returning l.platform_run_id, l.entity, l.flow_id, l.occurred_at_microseconds, l.source_seq, l.label_id, l."value",
          l.source, l.observed_microseconds, l.supersedes
