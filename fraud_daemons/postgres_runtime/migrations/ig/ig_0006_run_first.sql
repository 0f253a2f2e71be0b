-- The key of an admission begins with its run, as a hash: events come for the current run, so inserts touch that part of the
-- index and no other, however much history lies beside it. And a run's rows stand together, for reports and for giving them up:
-- the index that was there for these alone goes. Hashes tell runs and types apart; a look-up names both beside them.
create unique index admissions_key
  on ig.admissions ((hashtextextended(platform_run_id, 0)), (event_id::uuid), (hashtext(event_type)));
drop index ig.admissions_identity;
drop index ig.admissions_by_run;
