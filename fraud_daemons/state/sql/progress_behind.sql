-- What is not through: consumers behind their heads, segments not written, intents not executed, flows not released,
-- streams not ended. Empty = every stage has caught up.
select stage, what, records from (
  select c.worker as stage, c.topic as what, sum(h.next_position - c."position")::bigint as records
  from checkpoints.positions c
  join bus.heads h using (topic, "partition")
  where h.next_position > c."position"
  group by 1, 2
  union all
  select 'world_stream_producer', 'streams not ended', count(*) from wsp.streams where state in ('WAITING', 'RUNNING')
  union all
  select 'ingestion_gate', family || ' objects', count(*) from ig.segments where state = 'INTENT' group by family
  union all
  select 'decision_log_audit', family || ' objects', count(*) from dla.segments where state = 'INTENT' group by family
) as b
where records > 0
order by records desc, stage, what
