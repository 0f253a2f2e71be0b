-- A refused event that went through the gate again: who asked and why, and what the gate said. Where it was admitted,
-- (admitted_run, event_type, event_id) is the key of its receipt in ig.admissions. The quarantined row stays as it was.
create table ig.redrives (
  platform_run_id text        not null,
  request_id      text        not null,
  quarantine_id   text        not null,
  asked_by        text        not null,
  reason          text        not null,
  outcome         text        not null check (outcome in ('ADMITTED', 'DUPLICATE', 'REFUSED')),
  refusal         text        not null default '',
  detail          text        not null default '',
  admitted_run    text        not null default '',
  event_type      text        not null default '',
  event_id        text        not null default '',
  answered_at     timestamptz not null,
  primary key (platform_run_id, request_id)
);
create index redrives_by_quarantine_id on ig.redrives (quarantine_id);
