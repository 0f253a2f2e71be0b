-- One page of a run's dead letters, oldest first, behind the letter given.
select worker, topic, "partition", "position", event_id, record_key, reason, detail, state, dead_at
from dead_letters.letters
where platform_run_id = %(run)s
  and (%(only)s::text is null or worker = %(only)s::text)
  and (%(state)s::text is null or state = %(state)s::text)
  and (%(dead_at)s::timestamptz is null or (dead_at, worker, topic, "partition", "position") > (
    %(dead_at)s::timestamptz, %(worker)s::text, %(topic)s::text, %(partition)s::integer, %(position)s::bigint
  ))
order by dead_at, worker, topic, "partition", "position"
limit %(limit)s
