-- Records that commit with their state and are forwarded, in order, to a bus on another server.
create table outbox.pending (
  producer        text   not null,
  sequence        bigint not null,
  topic           text   not null,
  event_id        text   not null,
  record_key      text   not null,
  platform_run_id text   not null,
  body            bytea  not null,
  primary key (producer, sequence)
);
-- the sequence survives the deletion of forwarded rows
create table outbox.sequences (
  producer      text   primary key,
  next_sequence bigint not null default 1
) with (fillfactor = 20);
