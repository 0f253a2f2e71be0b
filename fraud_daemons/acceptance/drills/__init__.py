"""Faults with a verdict: each drill breaks one thing of a running platform for real, and the run report judges what is left.

    drill.py       the words: a drill, its proofs, what it may end
    stage.py       what a drill acts on: pids, the database as its owner, counters, rests
    witness.py     looks on: second copies, who was ready, what the workers named, who died unasked
    conductor.py   a run of its own, a stream during the fault, all ready again, the report, the verdict
    catalogue.py   every drill by name
    postgres.py, sessions.py, substrate.py, processes.py   the faults, by family

A drill refuses a profile that is not marked for drills. What it needs and the machine lacks it says; it never passes instead.
"""
