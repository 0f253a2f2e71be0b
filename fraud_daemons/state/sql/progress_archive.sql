-- Segments whose object is not known to be there.
select 'archive_writer', family || ' objects', count(*)
from archive.segments
where state = 'INTENT'
group by family
