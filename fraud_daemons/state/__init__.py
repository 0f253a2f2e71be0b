"""TRUTH 1: what services query and change. One module per table family; functions take an open connection.

State, evidence and checkpoints never share a table. SQL over a few lines lives in `sql/`.
"""
