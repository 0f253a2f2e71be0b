-- The feature plane: what happened to each card and at each terminal, and the index of the vectors that were given.

-- One row per entity of a transaction: c:<card>, t:<terminal> or m:<merchant>. Every column is part of the key or the
-- amount: flow_key (64 bits derived from the flow's id) keeps two flows apart that share an instant and a place in the
-- order, as live producers' may. Rows go when they are older, in event time, than any window may ask for.
create table ofp.entity_events (
  platform_run_id         text   not null,
  entity                  text   not null,
  occurred_at_microseconds bigint not null,
  source_seq              bigint not null,
  flow_key                bigint not null,
  amount_minor            bigint not null,
  primary key (platform_run_id, entity, occurred_at_microseconds, source_seq, flow_key)
);

-- The snapshot index: which vector a flow was given, under which definitions, and from which record. A flow that comes
-- again is known by its row here; payload_hash tells a repeat from another record under the same id.
create table ofp.snapshots (
  platform_run_id  text    not null,
  flow_id          text    not null,
  snapshot_hash    text    not null,
  feature_revision text    not null,
  payload_hash     bytea   not null,
  bound_partition  integer not null,
  bound_position   bigint  not null,
  primary key (platform_run_id, flow_id)
);

-- Per run: the newest event time seen, and what was out of the ordinary. late = put before a row that was there
-- already; too_late = later than the allowed lateness, so that vectors given before it are without it.
create table ofp.runs (
  platform_run_id     text   not null primary key,
  newest_microseconds bigint not null,
  repeats             bigint not null,
  late                bigint not null,
  too_late            bigint not null
) with (fillfactor = 20);

-- CONFLICT: a bound record under the id of another, with another content. Kept whole, never used; one row per record.
create table ofp.anomalies (
  platform_run_id text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  flow_id         text        not null,
  stored_hash     bytea       not null,
  payload_hash    bytea       not null,
  body            bytea       not null,
  found_at        timestamptz not null,
  primary key (platform_run_id, "partition", "position")
);
