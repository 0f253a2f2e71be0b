-- The world stream producer: what was asked of it, how far it is, and its own journal of what it sent and was answered.
create table wsp.streams (
  platform_run_id text        not null,
  stream_id       text        not null,
  ordinal         integer     not null,
  world           text        not null,
  request         jsonb       not null,
  state           text        not null default 'WAITING' check (state in ('WAITING', 'RUNNING', 'DONE', 'FAILED')),
  reason          text,
  -- rows of the world, the same for its four outputs: where this stream began, where its next round begins, and where
  -- the round ends that is being sent (null between rounds). Fixed before the first POST of a round, so that a round
  -- sent again after a kill has the same bounds and the same marks.
  first_index     bigint,
  next_index      bigint,
  round_end       bigint,
  truth_next      bigint,
  -- output -> {sent, admitted, duplicate, quarantined, stop_reason}; truth beside the four outputs
  outputs         jsonb       not null default '{}',
  accepted_at     timestamptz not null,
  started_at      timestamptz,
  ended_at        timestamptz,
  primary key (platform_run_id, stream_id)
);
create index streams_open on wsp.streams (accepted_at, ordinal) where state in ('WAITING', 'RUNNING');

-- The cursor: everything of an output below next_index was sent in this run. A later request goes on behind it.
create table wsp.wsp_checkpoint (
  platform_run_id text   not null,
  world           text   not null,
  output          text   not null,
  next_index      bigint not null,
  primary key (platform_run_id, world, output)
) with (fillfactor = 50);

-- One row per part of a round (an output's rows and the mark behind them): ids as sent and, beside each, what the gate answered. Written in the transaction that
-- moves the cursor, so a round is in here exactly when it was answered whole.
create table wsp.journal (
  platform_run_id text        not null,
  stream_id       text        not null,
  round_start     bigint      not null,
  part            integer     not null,
  output          text        not null,
  first_index     bigint      not null,
  event_ids       text[]      not null,
  statuses        text[]      not null,
  mark_id         text,
  mark_status     text,
  answered_at     timestamptz not null,
  primary key (platform_run_id, stream_id, round_start, part)
);
