-- Records that this server has not forwarded to the bus yet.
select producer, 'outbox', count(*)
from outbox.pending
group by producer
