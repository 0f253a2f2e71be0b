-- Segments whose object is not known to be there, of all runs or of one.
select 'ingestion_gate', family || ' objects', count(*)
from ig.segments
where state = 'INTENT' and (%(run)s::text is null or platform_run_id = %(run)s)
group by family
