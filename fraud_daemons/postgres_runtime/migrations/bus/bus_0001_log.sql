-- The embedded event bus: an append-only log per (topic, partition), one head row each, producer sequences.
-- Heads are locked and advanced by the append, last in its transaction, so positions become visible without gaps.
create table bus.log (
  topic           text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  event_id        text        not null,
  record_key      text        not null,
  platform_run_id text        not null,
  body            bytea       not null,
  appended_at     timestamptz not null default clock_timestamp(),
  primary key (topic, "partition", "position")
) with (toast_tuple_target = 8160);
-- bodies stay in the row up to 8 KB: a decision of 2 KB must not cost a second table's write
alter table bus.log alter column body set storage main;

-- rewritten at every append: room on the page keeps those updates off the index
create table bus.heads (
  topic         text        not null,
  "partition"   integer     not null,
  next_position bigint      not null default 0,
  appended_at   timestamptz not null default '-infinity',
  primary key (topic, "partition")
) with (fillfactor = 20);

create table bus.producers (
  producer      text   not null,
  topic         text   not null,
  "partition"   integer not null,
  last_sequence bigint not null,
  primary key (producer, topic, "partition")
) with (fillfactor = 20);
