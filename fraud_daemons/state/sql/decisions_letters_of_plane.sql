-- A page of the bound records that the feature plane set aside, on its own server, behind a place.
select l.topic, l."partition", l."position", l.record_key, l.event_id, l.platform_run_id, l.body,
       extract(epoch from l.dead_at)::float8
from dead_letters.letters l
where l.worker = 'online_feature_plane' and l.topic = 'flows.bound' and l.state <> 'REDRIVEN'
  and (l."partition", l."position") > (%(partition)s, %(position)s)
order by l."partition", l."position"
limit %(limit)s
