-- Which policies decided in a run. The row commits with the record on `policies` that carries the policy itself, so the
-- archive of a run holds each of its policies once.
create table df.policies (
  platform_run_id text        not null,
  digest          text        not null,
  first_at        timestamptz not null,
  primary key (platform_run_id, digest)
);
