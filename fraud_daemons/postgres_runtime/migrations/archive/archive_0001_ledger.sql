-- The archive's ledger: which range of a topic an object holds, fixed before the object is put. One row per run and range.
create table archive.segments (
  platform_run_id text    not null,
  family          text    not null,
  topic           text    not null,
  "partition"     integer not null,
  first_position  bigint  not null,
  last_position   bigint  not null,
  records         integer not null,
  previous_sha256 text    not null,
  sha256          text    not null,
  object_key      text    not null,
  state           text    not null check (state in ('INTENT', 'COMPLETE')),
  primary key (family, topic, "partition", first_position, platform_run_id)
);
create index segments_unwritten on archive.segments (family) where state = 'INTENT';
create index segments_of_run on archive.segments (platform_run_id, topic, "partition", first_position);
