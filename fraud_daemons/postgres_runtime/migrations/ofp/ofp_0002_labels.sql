-- Labels reach the features: where each flow stands at its terminal, the labels that were taken in, and how far the truth
-- feed has been passed on.

-- Who was on the other side: 64 bits derived from the terminal of a card's event, from the card of a terminal's. Null where
-- that is not known, and in rows from before this version, which distinct counts then leave out.
alter table ofp.entity_events add column counterpart bigint;

-- Where a flow stands at its terminal (t:<terminal> or m:<merchant>), so that a label can find it. Null without a terminal,
-- and for vectors given before this version.
alter table ofp.snapshots
  add column entity text,
  add column occurred_at_microseconds bigint,
  add column source_seq bigint;

-- The same for history that was warmed: those flows have no vector.
create table ofp.warmed_flows (
  platform_run_id          text   not null,
  flow_id                  text   not null,
  entity                   text   not null,
  occurred_at_microseconds bigint not null,
  source_seq               bigint not null,
  primary key (platform_run_id, flow_id)
);

-- The ledger of labels taken in, one row each. APPLIED = its flow is known and the shares count it from observed_microseconds
-- on; WAITING = its flow has not come; NO_PLACE = its flow has neither terminal nor merchant; NOT_COUNTED = a type that no
-- share counts. The place is the flow's.
create table ofp.labels (
  platform_run_id          text   not null,
  label_id                 text   not null,
  flow_id                  text   not null,
  "type"                   text   not null,
  "value"                  text   not null,
  source                   text   not null,
  observed_microseconds    bigint not null,
  supersedes               text,
  state                    text   not null check (state in ('APPLIED', 'WAITING', 'NO_PLACE', 'NOT_COUNTED')),
  entity                   text,
  occurred_at_microseconds bigint,
  source_seq               bigint,
  primary key (platform_run_id, label_id)
);
create index labels_by_entity on ofp.labels (platform_run_id, entity, occurred_at_microseconds) where state = 'APPLIED';
create index labels_by_flow on ofp.labels (platform_run_id, flow_id);
create index labels_waiting on ofp.labels (platform_run_id, flow_id) where state = 'WAITING';

-- The truth feed's marks as they came on `labels`: every label of this world observed at or before covered_microseconds
-- stands before the mark on this partition.
create table ofp.label_marks (
  platform_run_id      text    not null,
  scenario_run_id      text    not null,
  "partition"          integer not null,
  covered_microseconds bigint  not null,
  primary key (platform_run_id, scenario_run_id, "partition")
) with (fillfactor = 20);
