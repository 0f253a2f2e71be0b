"""What a run is held to: streaming and waiting until every stage has caught up, reports, traces, drills, and acceptance.

`sequence` takes the eight `gates` of `platform accept`; `drills` are faults with a verdict.
"""
