-- Admissions by event id, each with the evidence segment that holds its receipt.
select a.event_type, a.event_id, a.topic, a."partition", a."position", a.publish_state, a.producer, a.admitted_at,
       s.object_key as receipt_object, s.state as receipt_state
from ig.admissions a
left join lateral (
  select object_key, state
  from ig.segments
  where family = 'ig/receipts' and platform_run_id = a.platform_run_id and topic = a.topic and "partition" = a."partition"
    and first_position <= a."position" and last_position >= a."position"
  limit 1
) s on true
where a.event_id::uuid = any(array(select id::uuid from unnest(%(ids)s::text[]) as id where id ~ '^[0-9a-f]{32}$'))
  and hashtextextended(a.platform_run_id, 0) = hashtextextended(%(run)s, 0) and a.platform_run_id = %(run)s
  and a.event_type = any(%(types)s)
order by a.admitted_at, a.topic, a."partition", a."position"
