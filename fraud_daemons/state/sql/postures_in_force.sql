-- The last pin counts until it is released; without one the ladder's newest step does.
with pin as (
  select mode, sequence
  from control.posture_pins
  order by sequence desc
  limit 1
)
select mode, sequence
from pin
where mode <> 'RELEASED'
union all
(
  select mode, sequence
  from dl.postures
  where not exists (select from pin where mode <> 'RELEASED')
  order by sequence desc
  limit 1
)
