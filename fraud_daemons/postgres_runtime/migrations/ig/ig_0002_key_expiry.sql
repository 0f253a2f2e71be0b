-- A key may end by itself; null = it does not.
alter table ig.principals add column expires_at timestamptz;
