-- The flow of an intent.
select flow_id from al.intents where platform_run_id = %(run)s and intent_id = %(id)s
