-- Records that this server has not forwarded to the bus yet, of all runs or of one.
select producer, 'outbox', count(*)
from outbox.pending
where %(run)s::text is null or platform_run_id = %(run)s
group by producer
