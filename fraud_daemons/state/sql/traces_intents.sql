-- Intents by id with their outcomes.
select i.intent_id, i.action, i.origin, i.executor, i.state, i.received_at, o.status, o.attempts, o.detail, o.completed_at
from al.intents i
left join al.outcomes o using (platform_run_id, intent_id)
where i.platform_run_id = %(run)s and i.intent_id = any(%(ids)s)
order by i.arrival
