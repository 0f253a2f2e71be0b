-- The entity graph: who was seen, and who was seen together. An entity is written `<kind>:<id>` - card, terminal,
-- merchant, party, account, device, ip.

-- Flows that are in the graph. A flow that comes again is known by its row; the hash tells a repeat from another record
-- under the same id.
create table ieg.applied (
  platform_run_id text  not null,
  flow_id         text  not null,
  record_sha256   bytea not null,
  primary key (platform_run_id, flow_id)
);

-- first and last seen in event time. No index on them: an entity that is seen again is then updated in its place.
create table ieg.entities (
  platform_run_id text        not null,
  entity          text        not null,
  first_seen      timestamptz not null,
  last_seen       timestamptz not null,
  flows           bigint      not null,
  primary key (platform_run_id, entity)
) with (fillfactor = 80);

-- One row per pair, the card first: a card is seen at a terminal, with a merchant, by a party, from a device.
create table ieg.edges (
  platform_run_id text        not null,
  card            text        not null,
  entity          text        not null,
  first_seen      timestamptz not null,
  last_seen       timestamptz not null,
  flows           bigint      not null,
  primary key (platform_run_id, card, entity)
) with (fillfactor = 80);
create index edges_by_entity on ieg.edges (platform_run_id, entity, card);

-- Per run: how many flows the graph stands for. A decision names the version it could have seen.
create table ieg.versions (
  platform_run_id text   not null primary key,
  version         bigint not null,
  repeats         bigint not null
) with (fillfactor = 20);

-- CONFLICT: a bound record under the id of another, with other bytes. Kept whole, never applied.
create table ieg.anomalies (
  platform_run_id text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  flow_id         text        not null,
  record_sha256   bytea       not null,
  body            bytea       not null,
  found_at        timestamptz not null,
  primary key (platform_run_id, "partition", "position")
);
