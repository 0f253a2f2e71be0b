-- When a letter of a run was last handled again by order.
select max(ended_at)
from dead_letters.orders
join dead_letters.letters using (worker, topic, "partition", "position")
where orders.state = 'DONE' and orders.kind = 'REDRIVE' and platform_run_id = %s
