"""A real-time card-fraud platform of supervised daemons that stays up.

Map of the package, lowest layer first: `errors`, `clock` (the kinds of fault; time) - `domain` (pure rules) - `config`,
`observability` - `postgres_runtime` (the connector) - `state`, `evidence`, `checkpoints` (the three truth classes, which
do not know one another) - `bus` - `runtime` (the one loop) - `worlds`, `status`, `console` - `workers` - `supervision`,
`bootstrap` - `acceptance` - `cli`. `docs/ARCHITECTURE.md` has the reasons.
"""

__version__ = "0.1.0"
