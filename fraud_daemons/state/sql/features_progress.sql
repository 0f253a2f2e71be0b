-- Newest event time and counts per run; counts add up, the newest never goes back.
insert into ofp.runs as r (platform_run_id, newest_microseconds, repeats, late, too_late)
select * from unnest(%b::text[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[])
on conflict (platform_run_id) do update
set newest_microseconds = greatest(r.newest_microseconds, excluded.newest_microseconds),
    repeats = r.repeats + excluded.repeats, late = r.late + excluded.late, too_late = r.too_late + excluded.too_late
