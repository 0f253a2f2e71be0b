-- What people ordered for a letter, each order once: hand the record to its worker again, or leave it for good. A redrive
-- is carried out by the worker itself: what it does with the record, the letter's state and the order's end commit together.
create table dead_letters.orders (
  worker      text        not null,
  topic       text        not null,
  "partition" integer     not null,
  "position"  bigint      not null,
  ordinal     integer     not null check (ordinal >= 1),
  kind        text        not null check (kind in ('REDRIVE', 'SKIP')),
  ordered_by  text        not null,
  reason      text        not null check (reason <> ''),
  ordered_at  timestamptz not null,
  state       text        not null check (state in ('OPEN', 'DONE', 'FAILED')),
  detail      text        not null default '',
  ended_at    timestamptz,
  primary key (worker, topic, "partition", "position", ordinal)
);
create index orders_open on dead_letters.orders (worker, ordered_at) where state = 'OPEN';
