-- Runs whose state is given up: their last report, which says that nothing was lost, is in the object store, their records
-- are in the archive. From here on nothing is admitted for them. Written once, never changed.
create table control.retired_runs (
  platform_run_id text        primary key references control.runs,
  report_key      text        not null,
  retired_at      timestamptz not null
);
