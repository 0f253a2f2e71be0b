-- Poison: one record that can never pass as it is, with its reason and what was tried. Beside the state of its worker,
-- so that writing the letter and moving past the record are one transaction.
create table dead_letters.letters (
  worker          text        not null,
  topic           text        not null,
  "partition"     integer     not null,
  "position"      bigint      not null,
  platform_run_id text        not null,
  event_id        text        not null,
  record_key      text        not null,
  reason          text        not null,
  detail          text        not null,
  body            bytea       not null,
  dead_at         timestamptz not null,
  state           text        not null default 'DEAD' check (state in ('DEAD', 'REDRIVEN', 'SKIPPED')),
  primary key (worker, topic, "partition", "position")
);
