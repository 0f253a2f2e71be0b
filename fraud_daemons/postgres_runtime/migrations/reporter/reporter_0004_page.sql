-- The report as a page for people, evidence beside the JSON: its bytes are fixed with the report's, and put before it is
-- complete. Reports of earlier versions have none.
alter table reporter.reports
  add column page        bytea not null default '',
  add column page_sha256 text  not null default '',
  add column page_key    text  not null default '';
