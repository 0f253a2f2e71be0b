-- Segments whose object is not known to be there, of all runs or of one.
select 'decision_log_audit', family || ' objects', count(*)
from dla.segments
where state = 'INTENT' and (%(run)s::text is null or platform_run_id = %(run)s)
group by family
