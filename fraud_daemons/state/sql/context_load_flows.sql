-- The flows that a batch touches, and of each world the first that may leave, in its total order up to its traffic mark:
-- each with its traffic (waiting), its binding (left) and its anchor, whatever of these is here. One row per flow.
-- `limit 1` makes each of these a look-up by key: joined plainly, a plan made while the tables were small scans them whole
-- (110 ms instead of 10 at 200,000 rows), until somebody analyses them.
with touched as (
  select platform_run_id, flow_id
  from unnest(%(touched_runs)b::text[], %(touched_flows)b::text[]) as t(platform_run_id, flow_id)
), leaving as (
  select p.platform_run_id, p.flow_id
  from unnest(%(runs)b::text[], %(scenarios)b::text[], %(up_to_times)b::text[], %(up_to_seqs)b::bigint[])
    as w(platform_run_id, scenario_run_id, occurred_at, source_seq)
  cross join lateral (
    select q.platform_run_id, q.flow_id
    from csfb.pending q
    where q.platform_run_id = w.platform_run_id and q.scenario_run_id = w.scenario_run_id
      and (q.occurred_at, q.source_seq) <= (w.occurred_at collate "C", w.source_seq)
    order by q.occurred_at, q.source_seq, q.flow_id
    limit %(limit)b
  ) p
), wanted as (
  select platform_run_id, flow_id from touched
  union
  select platform_run_id, flow_id from leaving
)
select w.platform_run_id, w.flow_id, b.payload_hash,
       p.scenario_run_id, p.occurred_at, p.source_seq, p.live,
       p.event_id, p.payload_hash, p."partition", p."position", p.appended_at, p.body,
       a.scenario_run_id, a.frame_key,
       a.event_id, a.payload_hash, a."partition", a."position", a.appended_at, a.body
from wanted w
left join lateral (
  select * from csfb.bindings where platform_run_id = w.platform_run_id and flow_id = w.flow_id limit 1
) b on true
left join lateral (
  select * from csfb.pending where platform_run_id = w.platform_run_id and flow_id = w.flow_id limit 1
) p on true
left join lateral (
  select * from csfb.anchors where platform_run_id = w.platform_run_id and flow_id = w.flow_id limit 1
) a on true
where b.flow_id is not null or p.flow_id is not null or a.flow_id is not null
