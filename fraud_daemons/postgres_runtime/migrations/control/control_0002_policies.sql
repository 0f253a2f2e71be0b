-- Policies that were activated by command, as the text that was checked: a decision names its policy by digest, and
-- whoever replays it finds the very rules here. Never changed and never deleted.
create table control.policies (
  digest    text        primary key,
  policy_id text        not null,
  revision  integer     not null,
  document  text        not null,
  stored_by text        not null,
  stored_at timestamptz not null
);

-- Which policy decides; the last row counts, before the profile's decision.policy. Empty: the profile's.
create table control.policy_activations (
  sequence     bigint      generated always as identity primary key,
  name         text        not null,
  digest       text        not null references control.policies,
  reason       text        not null,
  activated_by text        not null,
  activated_at timestamptz not null
);
