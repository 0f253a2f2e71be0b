-- How many records of a run stand in [first, end) of a partition, by the last of `stands` (ascending) that each is not before.
-- One range of the log's key. What was trimmed there counts as well, a range at a time: whoever stands before it has not passed
-- it, or had not when he was asked where he stands. Requests for a report do not count.
select stand, sum(records)::bigint
from (
  select (%(stands)s::bigint[])[width_bucket("position", %(stands)s::bigint[])] as stand, count(*) as records
  from bus.log
  where topic = %(topic)s and "partition" = %(partition)s and "position" >= %(first)s and "position" < %(end)s
    and platform_run_id = %(run)s
    and (topic <> 'control' or position('"kind":"REPORT_REQUESTED"'::bytea in body) = 0)
  group by 1
  union all
  select (%(stands)s::bigint[])[width_bucket(last_position, %(stands)s::bigint[])], records
  from bus.trimmed
  where platform_run_id = %(run)s and topic = %(topic)s and "partition" = %(partition)s and topic <> 'control'
    and last_position >= %(first)s and last_position < %(end)s
) as found
group by stand
