-- Newest first, page by page: a page goes on behind the decision that ended the page before.
select
  d.decision_id, d.flow_id, d.platform_run_id, d.outcome, d.score, d.feature_status, d.context_status, d.posture_mode,
  d.occurred_at, d.decided_at
from df.decisions d
left join df.decisions a on a.decision_id = %(after)s
where (%(run)s::text is null or d.platform_run_id = %(run)s)
  and (%(outcome)s::text is null or d.outcome = %(outcome)s)
  and (%(since)s::timestamptz is null or d.decided_at >= %(since)s)
  and (%(posture)s::text is null or d.posture_mode = %(posture)s::text)
  and (%(features)s::text is null or d.feature_status = %(features)s::text)
  and (%(card)s::text is null or d.card_token = %(card)s::text)
  and (%(flow)s::text is null or d.flow_id = %(flow)s::text)
  and (%(after)s::text is null or (d.decided_at, d.decision_id) < (a.decided_at, a.decision_id))
order by d.decided_at desc, d.decision_id desc
limit %(limit)s
