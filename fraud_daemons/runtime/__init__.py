"""The worker's lifecycle, written once: the only endless loop in the package.

worker - what a worker file exposes | loop - steps, faults, beats, rest | activity - what the loop turns |
consumer - read, handle, publish, advance in one transaction | sealing - rows to evidence objects |
unit_of_work - one transaction's worth of work | service - HTTP with a fixed number of threads | backoff, signals.
"""
