-- A report whose object stands there with other bytes: it is kept as it was made, and never shown as complete.
alter table reporter.reports
  drop constraint reports_state_check,
  add constraint reports_state_check check (state in ('INTENT', 'COMPLETE', 'CONFLICT'));
