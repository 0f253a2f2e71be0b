-- What became of each assertion that a person asked for by command: the owner's answer, once per request, and who asked.
create table label_store.requests (
  platform_run_id text        not null,
  request_id      text        not null,
  flow_id         text        not null,
  asked_by        text        not null,
  outcome         text        not null check (outcome in ('APPLIED', 'REFUSED')),
  detail          text        not null,
  label_id        text,
  answered_at     timestamptz not null,
  primary key (platform_run_id, request_id)
);
