-- The neighbours of some entities, most recently seen first, `fan_out` of each. Of one entity `scan` edges are read at
-- most, by its key: what a supernode has beyond is told apart by `scanned`.
select w.entity, n.neighbour, n.first_seen, n.last_seen, n.flows, n.scanned
from unnest(%(entities)s::text[]) as w(entity)
cross join lateral (
  select neighbour, first_seen, last_seen, flows, count(*) over () as scanned
  from (
    (
      select entity as neighbour, first_seen, last_seen, flows
      from ieg.edges
      where platform_run_id = %(run)s and card = w.entity
      limit %(scan)s
    )
    union all
    (
      select card, first_seen, last_seen, flows
      from ieg.edges
      where platform_run_id = %(run)s and entity = w.entity
      limit %(scan)s
    )
  ) edges
  order by last_seen desc, neighbour
  limit %(fan_out)s
) n
