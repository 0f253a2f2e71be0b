"""Statements of the embedded bus."""
