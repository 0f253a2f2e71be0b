-- How many came through each stage.
select 'bound' as stage, count(*) as records from csfb.bindings where platform_run_id = %(run)s
union all select 'featured', count(*) from ofp.snapshots where platform_run_id = %(run)s
union all select 'decided', count(*) from df.decisions where platform_run_id = %(run)s
union all select 'intents', count(*) from al.intents where platform_run_id = %(run)s
union all select 'outcomes', count(*) from al.outcomes where platform_run_id = %(run)s
union all select 'audited', count(*) from dla.chains where platform_run_id = %(run)s and state = 'CLOSED'
union all select 'triggers', count(*) from case_trigger.triggers where platform_run_id = %(run)s
union all select 'cases_opened', count(*) from case_mgmt.timeline where platform_run_id = %(run)s and kind = 'OPENED'
union all select 'cases_merged', count(*) from case_mgmt.timeline where platform_run_id = %(run)s and kind = 'MERGED'
union all select 'labels', count(*) from label_store.assertions where platform_run_id = %(run)s
