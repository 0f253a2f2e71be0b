-- What every signal said when the posture changed: {signal: {ill, bad_seconds, rung, detail}}.
alter table dl.postures add column signals jsonb not null default '{}';
