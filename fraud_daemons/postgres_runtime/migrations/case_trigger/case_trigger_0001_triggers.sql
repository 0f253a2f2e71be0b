-- Case triggers: one row per derived trigger id, so that a replay of decisions or action outcomes meets its own footprint.
create table case_trigger.triggers (
  platform_run_id text        not null,
  trigger_id      text        not null,
  kind            text        not null check (kind in ('DECISION', 'ACTION_FAILED', 'MANUAL', 'EXTERNAL')),
  source_id       text        not null, -- the decision or the intent that it was raised for
  subject_kind    text        not null check (subject_kind in ('card', 'flow')),
  subject         text        not null,
  decision_id     text        not null,
  flow_id         text        not null,
  outcome         text        not null,
  reason          text        not null,
  occurred_at     timestamptz not null,
  source_seq      bigint      not null,
  content_sha256  text        not null,
  source_topic    text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  recorded_at     timestamptz not null,
  primary key (platform_run_id, trigger_id)
);
create index triggers_by_flow on case_trigger.triggers (platform_run_id, flow_id);

-- The same trigger id with other content: kept apart and counted, never written over the first.
create table case_trigger.conflicts (
  platform_run_id text        not null,
  trigger_id      text        not null,
  content_sha256  text        not null,
  body            jsonb       not null,
  seen            integer     not null default 1,
  recorded_at     timestamptz not null,
  primary key (platform_run_id, trigger_id, content_sha256)
);
