-- What the schemas looked like right after they were migrated: each table's columns, each index, each constraint. Written
-- by `platform up` when a server's migrations changed, compared with the catalogue ever after.
create table conformance.catalogue (
  server     text not null,
  object     text not null,
  definition text not null,
  primary key (server, object)
);

-- Which migrations a server's catalogue was taken at.
create table conformance.heads (
  server text not null primary key,
  head   text not null
);

-- The last round of checks: one row.
create table conformance.latest (
  only_row   boolean     not null primary key default true check (only_row),
  checked_at timestamptz not null,
  verdict    text        not null check (verdict in ('PASS', 'FAIL', 'UNKNOWN')),
  checks     jsonb       not null
) with (fillfactor = 20);

-- A row per check whose verdict changed; the oldest are deleted beyond a bound.
create table conformance.changes (
  sequence   bigint generated always as identity primary key,
  changed_at timestamptz not null,
  "check"    text        not null,
  verdict    text        not null,
  expected   text        not null,
  observed   text        not null
);
