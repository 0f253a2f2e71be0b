"""The event bus: the port's vocabulary first, then adapters.

port - record, position, partitioner, log | postgres_log - the embedded default | memory - for unit tests |
outbox - publishing to a bus on another server | dead_letters - poison, beside the worker's state.
Positions are provenance and progress; the bus is not a database.
"""
