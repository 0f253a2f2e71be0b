-- Bound records that the feature plane set aside, whose flows nobody has decided and which we have not set aside too.
select l.topic, l."partition", l."position", l.record_key, l.event_id, l.platform_run_id, l.body,
       extract(epoch from l.dead_at)::float8
from dead_letters.letters l
where l.worker = 'online_feature_plane' and l.topic = 'flows.bound' and l.state <> 'REDRIVEN'
  and not exists (
    select from df.decisions d where d.platform_run_id = l.platform_run_id and d.flow_id = l.event_id
  )
  and not exists (
    select from dead_letters.letters o
    where o.worker = 'decision_fabric' and o.topic = l.topic
      and o."partition" = l."partition" and o."position" = l."position"
  )
order by l."partition", l."position"
limit %(limit)s
