"""What a run is held to: streaming and waiting until every stage has caught up, reports, traces.

The eight gates, drills and the incident's reproduction come here with their own issues.
"""
