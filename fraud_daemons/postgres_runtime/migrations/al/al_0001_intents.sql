-- The action ledger: what was asked for, how far it is, and how it ended. An intent is executed once per intent_id,
-- which is also the idempotency key that receivers get.
create table al.intents (
  platform_run_id text        not null,
  intent_id       text        not null,
  decision_id     text        not null,
  flow_id         text        not null,
  action          text        not null,
  origin          text        not null,
  record_key      text        not null,
  content_hash    text        not null,
  body            bytea       not null,
  executor        text        not null check (executor in ('none', 'ledger', 'webhook')),
  state           text        not null check (state in ('PENDING', 'DONE')),
  -- calls begun (committed before each call) and calls known to have failed: what a crash cut off is in the first only
  attempts        integer     not null default 0,
  failures        integer     not null default 0,
  last_failure    text,
  not_before      timestamptz not null,
  arrival         bigint      generated always as identity,
  received_at     timestamptz not null,
  primary key (platform_run_id, intent_id)
) with (fillfactor = 80);
create index intents_pending on al.intents (arrival) where state = 'PENDING';

create table al.outcomes (
  platform_run_id text        not null,
  intent_id       text        not null,
  decision_id     text        not null,
  status          text        not null check (status in ('EXECUTED', 'DENIED', 'FAILED')),
  executor        text        not null,
  attempts        integer     not null,
  detail          text        not null,
  completed_at    timestamptz not null,
  body            bytea       not null,
  primary key (platform_run_id, intent_id)
);

-- The same intent_id with other content: kept, never executed.
create table al.conflicts (
  platform_run_id text        not null,
  intent_id       text        not null,
  content_hash    text        not null,
  topic           text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  body            bytea       not null,
  met_at          timestamptz not null,
  primary key (platform_run_id, intent_id, content_hash)
);

create table al.repeats (
  platform_run_id text   not null,
  topic           text   not null,
  repeats         bigint not null,
  primary key (platform_run_id, topic)
) with (fillfactor = 50);
