-- The flow of a label, or one that is known only by its labels.
(select flow_id from label_store.assertions where platform_run_id = %(run)s and flow_id = %(id)s limit 1)
union all
select flow_id from label_store.assertions where platform_run_id = %(run)s and label_id = %(id)s
limit 1
