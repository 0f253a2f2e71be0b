-- The newest reports; the names of the lines that miss ids or have too many come out of the report's own bytes.
select r.platform_run_id, r.request_id, r.verdict, r.state, r.reported_at,
       (select array_agg(e ->> 'name')
        from jsonb_array_elements(convert_from(r.body, 'UTF8')::jsonb -> 'equations') as e
        where r.verdict = 'FAIL' and ((e ->> 'missing')::bigint > 0 or (e ->> 'surplus')::bigint > 0)) as failed
from reporter.reports as r
order by r.reported_at desc
limit %(limit)s
