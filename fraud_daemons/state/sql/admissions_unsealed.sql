-- Records admitted or refused whose evidence object is not known to exist: not yet in a segment, or in one unwritten.
select coalesce((
    select sum(h.next_position - coalesce(c."position", 0))
    from unnest(%(workers)s::text[], %(topics)s::text[]) as s(worker, topic)
    join bus.heads h using (topic)
    left join checkpoints.positions c on c.worker = s.worker and c.topic = h.topic and c."partition" = h."partition"
  ), 0)
  + coalesce((select sum(records) from ig.segments where state = 'INTENT'), 0)
