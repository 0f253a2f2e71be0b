-- The rungs the degrade ladder has stepped to; the newest row is in force unless an operator pinned a posture.
-- Empty means NORMAL, sequence 0.
create table dl.postures (
  sequence   bigint      generated always as identity primary key,
  mode       text        not null check (mode in ('NORMAL', 'DEGRADED_1', 'DEGRADED_2', 'FAIL_CLOSED')),
  reason     text        not null,
  stepped_at timestamptz not null
);
