-- Delete a stretch of one partition and note per run what it was, in one statement: nobody can read the log without the
-- records and without the note.
with gone as (
  delete from bus.log
  where topic = %(topic)s and "partition" = %(partition)s and "position" >= %(first)s and "position" < %(end)s
  returning "position", event_id, platform_run_id, appended_at
), noted as (
  insert into bus.trimmed (
    platform_run_id, topic, "partition", first_position, last_position, records, ids_sha256, newest_at, trimmed_at
  )
  select platform_run_id, %(topic)s, %(partition)s, min("position"), max("position"), count(*),
         encode(sha256(convert_to(string_agg("position" || '|' || event_id, e'\n' order by "position"), 'UTF8')), 'hex'),
         max(appended_at), clock_timestamp()
  from gone
  group by platform_run_id
  returning platform_run_id, records, ids_sha256
), moved as (
  insert into bus.beginnings as b (topic, "partition", first_position)
  select %(topic)s, %(partition)s, %(end)s
  on conflict (topic, "partition") do update set first_position = excluded.first_position
  where b.first_position < excluded.first_position
)
select platform_run_id, records, ids_sha256 from noted
