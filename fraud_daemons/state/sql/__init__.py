"""Statements of the state modules, one file each."""
