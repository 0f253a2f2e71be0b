-- Records are never changed and leave by trimming, whose deletions bring their own vacuum. One for inserts alone reads every
-- page of the log once more, under the stream, for a flag that no query of ours looks at.
alter table bus.log set (autovacuum_vacuum_insert_threshold = -1);
