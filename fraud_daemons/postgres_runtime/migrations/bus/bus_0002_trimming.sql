-- Trimming: records go from the front of a partition once every reader is past them and the archive holds them.

-- Where a partition begins; 0 without a row. Apart from the heads, whose rows every append holds until it commits.
create table bus.beginnings (
  topic          text    not null,
  "partition"    integer not null,
  first_position bigint  not null,
  primary key (topic, "partition")
) with (fillfactor = 50);

-- What was trimmed, one row per range and run, written in the transaction of the deletion. ids_sha256 is taken over the
-- deleted rows: sha256 of the lines "<position>|<event_id>" in order, joined by line breaks. With it the run report proves
-- that the archive's objects hold what the bus held.
create table bus.trimmed (
  platform_run_id text        not null,
  topic           text        not null,
  "partition"     integer     not null,
  first_position  bigint      not null,
  last_position   bigint      not null,
  records         integer     not null,
  ids_sha256      text        not null,
  newest_at       timestamptz not null,
  trimmed_at      timestamptz not null,
  primary key (platform_run_id, topic, "partition", first_position)
);

-- Who reads a topic, as the packs said at the last `platform up`. One that has not read anything yet has no checkpoint, and
-- nothing that it still has to read may go.
create table bus.subscribers (
  topic  text not null,
  worker text not null,
  primary key (topic, worker)
);

-- Whole pages become free, for trimming goes by age as appending does; the server must find that out before the log has
-- grown by a fifth of its size, which is its default.
alter table bus.log set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 10000);
