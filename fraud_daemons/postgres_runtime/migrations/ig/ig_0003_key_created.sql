-- Which key of a principal is the newer one: a rotation keeps the one before it for a while, and ends the others.
alter table ig.principals add column created_at timestamptz not null default now();
