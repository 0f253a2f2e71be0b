"""Supervision: what commands do, and what it does by itself, over tiny workers that misbehave on request."""
