-- The receipts of a stretch of one partition, by position. A topic holds its own events and, here and there, progress marks:
-- only where there is no event of that id is a mark looked for. `limit 1` makes each a look-up by key and nothing else.
select l."position", l.platform_run_id, l.event_id, coalesce(a.event_type, m.event_type),
       coalesce(a.payload_hash, m.payload_hash), coalesce(a.producer, m.producer), coalesce(a.admitted_at, m.admitted_at)
from (
  select "position", platform_run_id, event_id,
         case when event_id ~ '^[0-9a-f]{32}$' then event_id::uuid end as id -- the topic is open to whoever may write to it
  from bus.log
  where topic = %(topic)s and "partition" = %(partition)s and "position" >= %(position)s
  order by topic, "partition", "position"
  limit %(limit)s
) l
left join lateral (
  select event_type, payload_hash, producer, admitted_at
  from ig.admissions
  where hashtextextended(platform_run_id, 0) = hashtextextended(l.platform_run_id, 0) and event_id::uuid = l.id
    and hashtext(event_type) = hashtext(%(topic)s)
    and event_type = %(topic)s and platform_run_id = l.platform_run_id
  limit 1
) a on true
left join lateral (
  select event_type, payload_hash, producer, admitted_at
  from ig.admissions
  where a.event_type is null
    and hashtextextended(platform_run_id, 0) = hashtextextended(l.platform_run_id, 0) and event_id::uuid = l.id
    and hashtext(event_type) = hashtext('progress_mark')
    and event_type = 'progress_mark' and platform_run_id = l.platform_run_id
  limit 1
) m on true
order by l."position"
