-- The flow of a decision, by either id.
select flow_id from df.decisions where platform_run_id = %(run)s and flow_id = %(id)s
union all
select flow_id from df.decisions where platform_run_id = %(run)s and decision_id = %(id)s
limit 1
