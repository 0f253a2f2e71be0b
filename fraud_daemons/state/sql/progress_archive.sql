-- Segments whose object is not known to be there, of all runs or of one.
select 'archive_writer', family || ' objects', count(*)
from archive.segments
where state = 'INTENT' and (%(run)s::text is null or platform_run_id = %(run)s)
group by family
