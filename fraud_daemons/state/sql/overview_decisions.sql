-- Of a run's newest decisions: how many, by outcome, and seconds from the last part admitted to the decision durable; of the
-- very newest what was known of its terminal.
with newest as (
  select outcome, decided_at, decision_id, flow_id,
         convert_from(body, 'UTF8')::jsonb ->> 'terminal_id' as terminal_id,
         convert_from(body, 'UTF8')::jsonb -> 'features' -> 'terminal_fraud_share_7d' as share,
         extract(epoch from decided_at)::float8 - (convert_from(body, 'UTF8')::jsonb ->> 'admitted_at')::float8 as seconds
  from df.decisions
  where platform_run_id = %(run)s
  order by decided_at desc, decision_id desc
  limit %(limit)s
)
select (select count(*) from newest),
       (select jsonb_object_agg(outcome, n) from (select outcome, count(*) as n from newest group by outcome) as o),
       percentile_cont(0.5) within group (order by seconds),
       percentile_cont(0.95) within group (order by seconds),
       percentile_cont(0.99) within group (order by seconds),
       (select jsonb_build_object('flow_id', flow_id, 'decision_id', decision_id, 'outcome', outcome,
                                  'terminal_id', terminal_id, 'terminal_fraud_share_7d', share)
        from newest order by decided_at desc, decision_id desc limit 1)
from newest
