-- Which governance events have their evidence object. The bytes are derived from control.governance, whose rows never
-- change, so a put that is repeated after a crash meets its own. CONFLICT: an object with other bytes stands there.
create table reporter.governance_objects (
  platform_run_id text not null,
  event_id        text not null,
  object_key      text not null,
  sha256          text not null,
  state           text not null check (state in ('COMPLETE', 'CONFLICT')),
  primary key (platform_run_id, event_id)
);
