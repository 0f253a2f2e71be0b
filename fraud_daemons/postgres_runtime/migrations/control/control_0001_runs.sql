-- Runs: one execution of the platform. Only `platform run new` begins one.
create table control.runs (
  platform_run_id text        primary key,
  started_at      timestamptz not null,
  live            boolean     not null default false,
  note            text        not null default ''
);

-- The posture an operator pinned; the last row counts. The degrade ladder writes its own steps to dl.postures.
create table control.posture_pins (
  sequence   bigint      generated always as identity primary key,
  mode       text        not null check (mode in ('NORMAL', 'DEGRADED_1', 'DEGRADED_2', 'FAIL_CLOSED', 'RELEASED')),
  reason     text        not null,
  pinned_by  text        not null,
  pinned_at  timestamptz not null
);

-- Requests to stream a world, so that stream_id is derived from an ordinal and a request can be listed.
create table control.streams (
  stream_id       text        primary key,
  platform_run_id text        not null references control.runs,
  ordinal         integer     not null,
  world           text        not null,
  request         jsonb       not null,
  requested_at    timestamptz not null,
  unique (platform_run_id, ordinal)
);
