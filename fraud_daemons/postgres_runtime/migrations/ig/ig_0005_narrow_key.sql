-- What an admission is unique by - run, type and id - as 24 bytes instead of 90: the ids come in no order, so every insert goes
-- down the whole index and writes to another page of it, and a third of the pages is a third of that. An id is 32 hex digits, a
-- uuid by another name. Of run and type there are few pairs: a hash tells them apart, and a look-up names them beside it.
alter table ig.admissions drop constraint admissions_pkey;
create unique index admissions_identity
  on ig.admissions ((event_id::uuid), (hashtextextended(event_type || platform_run_id, 0)));

-- All rows of a run, for reports, and for giving them up a batch at a time without a look at what other runs have there.
-- New rows go to its end, and equal keys share one entry.
create index admissions_by_run on ig.admissions (platform_run_id);
