-- Streams that have not ended, of all runs or of one.
select 'world_stream_producer', 'streams not ended', count(*)
from wsp.streams
where state in ('WAITING', 'RUNNING') and (%(run)s::text is null or platform_run_id = %(run)s)
having count(*) > 0
