-- Refused events, once each; the same refusal again is only counted. xmax = 0 tells an inserted row from an updated one.
insert into ig.quarantine
  (platform_run_id, quarantine_id, event_id, event_type, reason, detail, producer, payload_sha256, body, seen, quarantined_at)
select w.run, w.quarantine_id, w.id, w.type, w.reason, w.detail, %(producer)s, w.hash, w.body, w.seen, %(at)s
from unnest(
  %(runs)s::text[], %(quarantine_ids)s::text[], %(ids)s::text[], %(types)s::text[], %(reasons)s::text[],
  %(details)s::text[], %(hashes)s::text[], %(bodies)s::bytea[], %(seen)s::integer[]
) as w(run, quarantine_id, id, type, reason, detail, hash, body, seen)
order by w.run, w.quarantine_id
on conflict (platform_run_id, quarantine_id) do update set seen = quarantine.seen + excluded.seen
returning quarantine_id, xmax = 0
