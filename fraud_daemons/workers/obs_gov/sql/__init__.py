"""Figures of the run report."""
