-- The next entities of a run behind `after`; those whose every row is old enough lose them, a bounded number at once.
with recursive next (entity) as (
  (select entity from ofp.entity_events where platform_run_id = %(run)s and entity > %(after)s order by entity limit 1)
  union all
  select (
    select entity from ofp.entity_events where platform_run_id = %(run)s and entity > next.entity order by entity limit 1
  )
  from next
  where next.entity is not null
),
looked as materialized (select entity from next where entity is not null limit %(looks)s),
idle as materialized (
  select entity
  from looked
  where not exists (
    select 1
    from ofp.entity_events
    where platform_run_id = %(run)s and entity = looked.entity and occurred_at_microseconds > %(horizon)s
  )
),
gone as (
  delete from ofp.entity_events
  where ctid = any (array (
    select o.ctid
    from idle join ofp.entity_events o on o.platform_run_id = %(run)s and o.entity = idle.entity
    limit %(rows)s
  ))
)
select (select max(entity) from looked), (select count(*) from looked), array(select entity from idle)
