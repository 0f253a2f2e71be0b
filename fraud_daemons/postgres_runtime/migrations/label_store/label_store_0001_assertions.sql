-- Label assertions, append-only: a correction is another row that names the one it supersedes.
-- effective_time = when it happened, observed_time = when the source knew, recorded_at = when we stored it.
create table label_store.assertions (
  platform_run_id text        not null,
  label_id        text        not null,
  flow_id         text        not null,
  "type"          text        not null check ("type" in ('fraud_disposition', 'chargeback_status', 'account_takeover')),
  "value"         text        not null,
  fraud_type      text,
  source          text        not null check (source in ('HUMAN', 'EXTERNAL', 'AUTO')),
  source_ref      text        not null,
  source_event_id text        not null,
  effective_time  timestamptz not null,
  observed_time   timestamptz not null,
  recorded_at     timestamptz not null,
  supersedes      text,
  content_sha256  text        not null,
  primary key (platform_run_id, label_id)
);
create index assertions_by_flow on label_store.assertions (platform_run_id, flow_id);
create index assertions_by_observed_time on label_store.assertions (platform_run_id, observed_time, label_id);

-- Progress marks of the truth feed that were forwarded on `labels`, so that a replay forwards none again.
create table label_store.marks (
  platform_run_id  text        not null,
  event_id         text        not null,
  "partition"      integer     not null,
  up_to_occurred_at timestamptz not null,
  up_to_source_seq bigint      not null,
  end_of_world     boolean     not null,
  forwarded_at     timestamptz not null,
  primary key (platform_run_id, event_id, "partition")
);

-- The same label id with other content: kept apart and counted, never written over the first.
create table label_store.conflicts (
  platform_run_id text        not null,
  label_id        text        not null,
  content_sha256  text        not null,
  body            jsonb       not null,
  seen            integer     not null default 1,
  recorded_at     timestamptz not null,
  primary key (platform_run_id, label_id, content_sha256)
);

create function label_store.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '%.% is append-only', tg_table_schema, tg_table_name;
end
$$;
create trigger append_only before update or delete on label_store.assertions
  for each statement execute function label_store.refuse_change();
