-- What became of each change that a person asked for: the owner's answer, once per request.
create table case_mgmt.changes (
  platform_run_id text        not null,
  request_id      text        not null,
  case_id         text        not null,
  outcome         text        not null check (outcome in ('APPLIED', 'REFUSED')),
  detail          text        not null,
  entry           integer,
  answered_at     timestamptz not null,
  primary key (platform_run_id, request_id)
);
