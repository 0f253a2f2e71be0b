-- Cases, where each trigger went, and the timeline of each case.
-- `version` grows with every change: several people and the worker change one case at once without lost updates.
-- `last_entry` numbers the timeline; whoever appends an entry holds this row's lock, so there is neither gap nor double.
create table case_mgmt.cases (
  platform_run_id text        not null,
  case_id         text        not null,
  subject_kind    text        not null check (subject_kind in ('card', 'flow')),
  subject         text        not null,
  ordinal         integer     not null check (ordinal >= 1),
  status          text        not null default 'OPEN' check (status in ('OPEN', 'RESOLVED')),
  assignee        text,
  disposition     text        check (disposition in ('FRAUD', 'LEGIT', 'INCONCLUSIVE')),
  triggers        integer     not null,
  last_entry      integer     not null,
  version         bigint      not null default 1,
  opened_at       timestamptz not null,
  changed_at      timestamptz not null,
  primary key (platform_run_id, case_id),
  unique (platform_run_id, subject_kind, subject, ordinal),
  check ((status = 'RESOLVED') = (disposition is not null))
);
-- the merge rule, held by the database as well: at most one open case per subject
create unique index cases_one_open on case_mgmt.cases (platform_run_id, subject_kind, subject) where status = 'OPEN';
create index cases_queue on case_mgmt.cases (platform_run_id, opened_at, case_id);

-- Where a trigger went, so that a repeat is absorbed.
create table case_mgmt.placements (
  platform_run_id text    not null,
  trigger_id      text    not null,
  case_id         text    not null,
  entry           integer not null,
  content_sha256  text    not null,
  primary key (platform_run_id, trigger_id)
);

-- Append-only: entries count from 1 within a case.
create table case_mgmt.timeline (
  platform_run_id text        not null,
  case_id         text        not null,
  entry           integer     not null check (entry >= 1),
  kind            text        not null check (kind in ('OPENED', 'MERGED', 'ASSIGNED', 'NOTE', 'RESOLVED')),
  body            jsonb       not null,
  recorded_at     timestamptz not null,
  primary key (platform_run_id, case_id, entry)
);

-- A repeated trigger id with other content: kept apart and counted.
create table case_mgmt.conflicts (
  platform_run_id text        not null,
  trigger_id      text        not null,
  content_sha256  text        not null,
  body            jsonb       not null,
  seen            integer     not null default 1,
  recorded_at     timestamptz not null,
  primary key (platform_run_id, trigger_id, content_sha256)
);

create function case_mgmt.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '%.% is append-only', tg_table_schema, tg_table_name;
end
$$;
create trigger append_only before update or delete on case_mgmt.timeline
  for each statement execute function case_mgmt.refuse_change();
