-- Streams that have not ended.
select 'world_stream_producer', 'streams not ended', count(*)
from wsp.streams
where state in ('WAITING', 'RUNNING')
having count(*) > 0
