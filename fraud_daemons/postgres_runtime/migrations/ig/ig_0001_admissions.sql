-- The ingestion gate: who may send what, what was admitted, what was not, and the ledger of receipt objects.
create table ig.principals (
  name        text    not null,
  key_sha256  text    not null,
  event_types text[]  not null,
  active      boolean not null default true,
  primary key (name, key_sha256)
);

-- The committed row is the receipt. Keyed by run first: the same world streamed twice in two runs is two admissions.
create table ig.admissions (
  platform_run_id text        not null,
  event_type      text        not null,
  event_id        text        not null,
  payload_hash    text        not null,
  producer        text        not null,
  topic           text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  publish_state   text        not null default 'PUBLISHED' check (publish_state in ('PENDING', 'PUBLISHED')),
  admitted_at     timestamptz not null,
  primary key (platform_run_id, event_type, event_id)
);

-- Every event that was refused, with its original bytes. Ids derived, so that the same refusal again is one row.
create table ig.quarantine (
  platform_run_id text        not null,
  quarantine_id   text        not null,
  event_id        text        not null,
  event_type      text        not null,
  reason          text        not null,
  detail          text        not null,
  producer        text        not null,
  payload_sha256  text        not null,
  body            bytea       not null,
  seen            integer     not null default 1,
  quarantined_at  timestamptz not null,
  primary key (platform_run_id, quarantine_id)
);

-- Repeats that were absorbed, by producer and type: the report needs them as a named term.
create table ig.repeats (
  platform_run_id text   not null,
  producer        text   not null,
  event_type      text   not null,
  repeats         bigint not null,
  primary key (platform_run_id, producer, event_type)
) with (fillfactor = 50);

create table ig.segments (
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
create index segments_unwritten on ig.segments (family) where state = 'INTENT';
