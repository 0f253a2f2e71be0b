-- The flow of a trigger.
select flow_id from case_trigger.triggers where platform_run_id = %(run)s and trigger_id = %(id)s
