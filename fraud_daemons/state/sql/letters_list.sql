-- One page of a run's dead letters, oldest first, behind the letter given.
select worker, topic, "partition", "position", event_id, record_key, reason, detail, state, dead_at
from dead_letters.letters
where platform_run_id = %(run)s
  and (%(only)s::text is null or worker = %(only)s::text)
  and (not %(paged)s or (dead_at, worker, topic, "partition", "position") > (
    select dead_at, worker, topic, "partition", "position"
    from dead_letters.letters
    where worker = %(worker)s and topic = %(topic)s and "partition" = %(partition)s and "position" = %(position)s
  ))
order by dead_at, worker, topic, "partition", "position"
limit %(limit)s
