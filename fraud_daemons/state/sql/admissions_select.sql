-- Which of a batch's events were admitted before, and their receipts: one look-up in the key per event.
select a.platform_run_id, a.event_type, a.event_id, a.payload_hash, a.producer, a.topic, a."partition", a."position",
       a.admitted_at
from unnest(%(runs)b::text[], %(types)b::text[], %(ids)b::text[]) as w(platform_run_id, event_type, event_id)
join ig.admissions a
  on hashtextextended(a.platform_run_id, 0) = hashtextextended(w.platform_run_id, 0)
  and a.event_id::uuid = w.event_id::uuid and hashtext(a.event_type) = hashtext(w.event_type)
where a.event_type = w.event_type and a.platform_run_id = w.platform_run_id
