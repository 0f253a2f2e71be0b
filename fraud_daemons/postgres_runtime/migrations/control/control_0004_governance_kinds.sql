-- Kinds of governance events are listed in the code; the table only says what a kind looks like, so that a new one needs
-- no change of a table that is kept for ever.
alter table control.governance drop constraint governance_kind_check;
alter table control.governance add constraint governance_kind_check check (kind ~ '^[A-Z]+(_[A-Z]+)*$');
