-- The context store: what waits, what has left, and the identity of every part ever seen.
-- A part's body stands here only while it waits; its key and hash stay, so that a conflict is still seen afterwards.
-- Times of the world's order are text in the one format of the platform, which sorts as time under "C".

-- Flows that have not left. Rows live for moments; the hot path (all parts and marks in one batch) never writes one.
create table csfb.pending (
  platform_run_id text             not null,
  scenario_run_id text             not null,
  occurred_at     text collate "C" not null,
  source_seq      bigint           not null,
  flow_id         text             not null,
  live            boolean          not null,
  event_id        text             not null,
  payload_hash    bytea            not null,
  "partition"     integer          not null,
  "position"      bigint           not null,
  appended_at     float8           not null,
  body            bytea            not null,
  primary key (platform_run_id, scenario_run_id, occurred_at, source_seq, flow_id)
);
create unique index pending_by_flow on csfb.pending (platform_run_id, flow_id);

-- Which arrival and which entities a flow belongs to. body is null once the flow has left.
create table csfb.anchors (
  platform_run_id text    not null,
  flow_id         text    not null,
  scenario_run_id text    not null,
  frame_key       text    not null,
  event_id        text    not null,
  payload_hash    bytea   not null,
  "partition"     integer not null,
  "position"      bigint  not null,
  appended_at     float8  not null,
  body            bytea,
  primary key (platform_run_id, flow_id)
) with (fillfactor = 80);

-- One arrival at one place: its event and its entities, either may still be on the way.
-- taken_by names the flow that left with it; the bodies are null from then on.
create table csfb.frames (
  platform_run_id      text not null,
  scenario_run_id      text not null,
  frame_key            text not null,
  taken_by             text,
  arrival_event_id     text,
  arrival_hash         bytea,
  arrival_partition    integer,
  arrival_position     bigint,
  arrival_appended_at  float8,
  arrival_body         bytea,
  entities_event_id    text,
  entities_hash        bytea,
  entities_partition   integer,
  entities_position    bigint,
  entities_appended_at float8,
  entities_body        bytea,
  primary key (platform_run_id, scenario_run_id, frame_key)
) with (fillfactor = 80);

-- How far each output of a world is known to be here. Marks come on every partition; the lowest counts.
create table csfb.marks (
  platform_run_id   text             not null,
  scenario_run_id   text             not null,
  "output"          text             not null,
  "partition"       integer          not null,
  up_to_occurred_at text collate "C" not null,
  up_to_source_seq  bigint           not null,
  primary key (platform_run_id, scenario_run_id, "output", "partition")
) with (fillfactor = 20);

-- Every flow that left, with what context, by which rule, and from which records.
create table csfb.bindings (
  platform_run_id text             not null,
  flow_id         text             not null,
  scenario_run_id text             not null,
  event_id        text             not null,
  payload_hash    bytea            not null,
  occurred_at     text collate "C" not null,
  source_seq      bigint           not null,
  context_status  text             not null check (context_status in ('COMPLETE', 'PARTIAL', 'MISSING')),
  release_rule    text             not null check (release_rule in ('complete', 'marks', 'budget')),
  frame_key       text,
  -- where the parts stand on the bus; null for one that did not come
  traffic_partition          integer not null,
  traffic_position           bigint  not null,
  arrival_events_partition   integer,
  arrival_events_position    bigint,
  arrival_entities_partition integer,
  arrival_entities_position  bigint,
  flow_anchors_partition     integer,
  flow_anchors_position      bigint,
  bound_at        timestamptz      not null,
  primary key (platform_run_id, flow_id)
);

-- CONFLICT: a part that came under the key of another, with another payload. Kept whole, never merged; one row per record.
create table csfb.anomalies (
  platform_run_id text        not null,
  scenario_run_id text        not null,
  "output"        text        not null,
  part_key        text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  event_id        text        not null,
  stored_hash     bytea       not null,
  payload_hash    bytea       not null,
  body            bytea       not null,
  found_at        timestamptz not null,
  primary key (platform_run_id, "output", "partition", "position")
);

-- Parts that came again with the same payload: absorbed, and counted here because a report must be able to name them.
create table csfb.repeats (
  platform_run_id text   not null,
  "output"        text   not null,
  repeats         bigint not null,
  primary key (platform_run_id, "output")
) with (fillfactor = 20);
