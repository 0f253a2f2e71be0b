"""Statements of the acceptance package."""
