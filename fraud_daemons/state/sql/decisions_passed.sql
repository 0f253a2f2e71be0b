-- Places of flows.bound whose flow is decided or which we have set aside too.
select w."partition", w."position"
from unnest(%(partitions)s::integer[], %(positions)s::bigint[], %(runs)s::text[], %(flows)s::text[])
     as w("partition", "position", run, flow)
where exists (select from df.decisions d where d.platform_run_id = w.run and d.flow_id = w.flow)
   or exists (
     select from dead_letters.letters o
     where o.worker = 'decision_fabric' and o.topic = 'flows.bound'
       and o."partition" = w."partition" and o."position" = w."position"
   )
