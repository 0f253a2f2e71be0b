-- What people and the supervisor did to the platform, beside what flows through it: written in the transaction of the
-- deed itself, never changed, never deleted. run_reporter makes an evidence object of each.
create table control.governance (
  platform_run_id text        not null,
  event_id        text        not null unique,
  kind            text        not null check (kind in
    ('RUN_STARTED', 'RUN_ENDED', 'POLICY_ACTIVATED', 'KEY_ROTATED', 'WORKER_HELD', 'EVIDENCE_READ')),
  -- what it was done to: a run, a policy, a principal, a worker, an object of evidence
  subject         text        not null,
  done_by         text        not null,
  happened_at     timestamptz not null,
  detail          jsonb       not null default '{}',
  primary key (platform_run_id, event_id)
);
