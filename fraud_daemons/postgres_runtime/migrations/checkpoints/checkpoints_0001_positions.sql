-- Where a consumer resumes, moved by compare-and-set in the transaction of the state it belongs to. Progress only.
create table checkpoints.positions (
  worker        text    not null,
  topic         text    not null,
  "partition"   integer not null,
  "position"    bigint  not null default 0,
  epoch         bigint  not null default 0,
  primary key (worker, topic, "partition")
) with (fillfactor = 20);
