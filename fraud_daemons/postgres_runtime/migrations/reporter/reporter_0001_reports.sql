-- Requests for a run report and the reports made. The body is fixed (sha256) before it is put into the object store.
create table reporter.requests (
  platform_run_id text        not null,
  request_id      text        not null,
  requested_at    timestamptz not null,
  primary key (platform_run_id, request_id)
);

create table reporter.reports (
  platform_run_id text        not null,
  request_id      text        not null,
  verdict         text        not null check (verdict in ('PASS', 'FAIL')),
  body            bytea       not null,
  sha256          text        not null,
  object_key      text        not null,
  state           text        not null check (state in ('INTENT', 'COMPLETE')),
  reported_at     timestamptz not null,
  primary key (platform_run_id, request_id),
  foreign key (platform_run_id, request_id) references reporter.requests
);
