"""Observability and governance."""
