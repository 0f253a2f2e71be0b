-- A flow that the context store has met.
select flow_id from csfb.bindings where platform_run_id = %(run)s and flow_id = %(id)s
union all
select flow_id from csfb.pending where platform_run_id = %(run)s and flow_id = %(id)s
union all
select flow_id from csfb.anchors where platform_run_id = %(run)s and flow_id = %(id)s
limit 1
