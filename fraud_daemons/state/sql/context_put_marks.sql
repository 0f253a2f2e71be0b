-- A mark never goes back: a stream sent again from its start repeats old ones.
insert into csfb.marks as m (platform_run_id, scenario_run_id, "output", "partition", up_to_occurred_at, up_to_source_seq)
select * from unnest(%b::text[], %b::text[], %b::text[], %b::integer[], %b::text[], %b::bigint[])
on conflict (platform_run_id, scenario_run_id, "output", "partition") do update
set up_to_occurred_at = excluded.up_to_occurred_at, up_to_source_seq = excluded.up_to_source_seq
where (m.up_to_occurred_at, m.up_to_source_seq) < (excluded.up_to_occurred_at, excluded.up_to_source_seq)
