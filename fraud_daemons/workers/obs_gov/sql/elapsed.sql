-- From the first stream's start to the run's last record on the bus.
select round((extract(epoch from (select max(appended_at) from bus.log where platform_run_id = %(run)s))
  - extract(epoch from (select min(started_at) from wsp.streams where platform_run_id = %(run)s)))::numeric, 3)::float8 as seconds
