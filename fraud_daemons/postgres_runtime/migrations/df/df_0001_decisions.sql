-- Decisions: one per run and flow, whichever record it was made from. `body` is exactly what was published.
create table df.decisions (
  platform_run_id   text        not null,
  flow_id           text        not null,
  decision_id       text        not null unique,
  outcome           text        not null check (outcome in ('ALLOW', 'STEP_UP', 'REVIEW', 'BLOCK')),
  score             integer     not null,
  feature_status    text        not null check (feature_status in ('PRESENT', 'ABSENT')),
  context_status    text        not null,
  core_digest       text        not null,
  policy_id         text        not null,
  policy_revision   integer     not null,
  policy_digest     text        not null,
  posture_mode      text        not null,
  posture_sequence  bigint      not null,
  snapshot_hash     text,
  occurred_at       timestamptz not null,
  source_seq        bigint      not null,
  card_token        text,
  -- the record it was made from: met again, it is a repeat
  decided_topic     text        not null,
  decided_partition integer     not null,
  decided_position  bigint      not null,
  decided_at        timestamptz not null,
  body              bytea       not null,
  primary key (platform_run_id, flow_id)
) with (toast_tuple_target = 8160);
-- bodies stay in the row up to 8 KB: a decision of 2 KB must not cost a second table's write
alter table df.decisions alter column body set storage main;
-- lists are newest first; a batch shares its decided_at, so inserts stay on the last pages
create index decisions_decided on df.decisions (platform_run_id, decided_at, decision_id);

-- Vectors that came after their flow had been decided without them: kept for the report, never acted on.
create table df.late_features (
  platform_run_id text        not null,
  flow_id         text        not null,
  decision_id     text        not null,
  snapshot_hash   text,
  "partition"     integer     not null,
  "position"      bigint      not null,
  met_at          timestamptz not null,
  primary key (platform_run_id, flow_id)
);

-- The same flow again with other content, under the same policy and posture: an anomaly, kept and never acted on.
create table df.conflicts (
  platform_run_id text        not null,
  flow_id         text        not null,
  core_digest     text        not null,
  decision_id     text        not null,
  topic           text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  body            bytea       not null,
  met_at          timestamptz not null,
  primary key (platform_run_id, flow_id, core_digest)
);

-- Records that met the decision they had themselves led to, or an equal one; counted, since the report names them.
create table df.repeats (
  platform_run_id text   not null,
  topic           text   not null,
  repeats         bigint not null,
  primary key (platform_run_id, topic)
) with (fillfactor = 50);
