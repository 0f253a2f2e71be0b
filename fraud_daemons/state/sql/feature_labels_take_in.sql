-- Labels that are new enter the ledger with the place of their flow, where that is known; those are given back.
insert into ofp.labels
  (platform_run_id, label_id, flow_id, "type", "value", source, observed_microseconds, supersedes, state, entity,
   occurred_at_microseconds, source_seq)
select l.platform_run_id, l.label_id, l.flow_id, l."type", l."value", l.source, l.observed_microseconds, l.supersedes,
       case when l."type" <> %(counted)s then 'NOT_COUNTED'
            when coalesce(s.entity, w.entity) is not null then 'APPLIED'
            when s.occurred_at_microseconds is not null then 'NO_PLACE'
            else 'WAITING' end,
       coalesce(s.entity, w.entity),
       coalesce(s.occurred_at_microseconds, w.occurred_at_microseconds), coalesce(s.source_seq, w.source_seq)
from unnest(%(runs)s::text[], %(labels)s::text[], %(flows)s::text[], %(types)s::text[], %(values)s::text[],
            %(sources)s::text[], %(observed)s::bigint[], %(supersedes)s::text[])
  as l(platform_run_id, label_id, flow_id, "type", "value", source, observed_microseconds, supersedes)
left join ofp.snapshots s on s.platform_run_id = l.platform_run_id and s.flow_id = l.flow_id
left join ofp.warmed_flows w on w.platform_run_id = l.platform_run_id and w.flow_id = l.flow_id
on conflict (platform_run_id, label_id) do nothing
returning platform_run_id, flow_id, state
