-- The index of audit chains: decision -> intents -> outcomes. A chain is CLOSED when every intent has its outcome.
create table dla.chains (
  platform_run_id  text        not null,
  chain_id         text        not null,
  decision_id      text        not null,
  flow_id          text        not null,
  record_key       text        not null,
  core_digest      text        not null,
  outcome          text        not null,
  intents          text[]      not null,
  -- one per intent, in the order of `intents`, once the chain is closed
  statuses         text[],
  intents_expected integer     not null,
  outcomes_seen    integer     not null default 0,
  state            text        not null check (state in ('OPEN', 'CLOSED')),
  opened_at        timestamptz not null,
  closed_at        timestamptz,
  primary key (platform_run_id, chain_id),
  check ((state = 'CLOSED') = (closed_at is not null and statuses is not null))
) with (fillfactor = 80);
create index chains_open on dla.chains (platform_run_id) where state = 'OPEN';

-- Outcomes as they came, whether or not their decision is known yet: topics have no order between them.
create table dla.outcomes (
  platform_run_id text        not null,
  intent_id       text        not null,
  decision_id     text        not null,
  status          text        not null,
  seen_at         timestamptz not null,
  primary key (platform_run_id, intent_id)
);
create index outcomes_of_decision on dla.outcomes (platform_run_id, decision_id);

-- The same decision or outcome again with other content: an anomaly, kept; the chain stays as it was.
create table dla.conflicts (
  platform_run_id text        not null,
  topic           text        not null,
  record_id       text        not null,
  content         text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  met_at          timestamptz not null,
  primary key (platform_run_id, topic, record_id, content)
);

create table dla.repeats (
  platform_run_id text   not null,
  topic           text   not null,
  repeats         bigint not null,
  primary key (platform_run_id, topic)
) with (fillfactor = 50);

-- The ledger of audit objects, as every component that writes evidence has one.
create table dla.segments (
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
create index segments_unwritten on dla.segments (family) where state = 'INTENT';
