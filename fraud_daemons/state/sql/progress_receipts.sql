-- Segments whose object is not known to be there.
select 'ingestion_gate', family || ' objects', count(*)
from ig.segments
where state = 'INTENT'
group by family
