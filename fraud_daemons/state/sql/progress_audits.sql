-- Segments whose object is not known to be there.
select 'decision_log_audit', family || ' objects', count(*)
from dla.segments
where state = 'INTENT'
group by family
