-- Letters of a run that a person ordered to be handled again and that were not yet.
select worker, 'letters ordered again', count(*)
from dead_letters.orders
join dead_letters.letters using (worker, topic, "partition", "position")
where orders.state = 'OPEN' and orders.kind = 'REDRIVE' and platform_run_id = %(run)s
group by worker
