"""The web page. It comes with its own issue; until then this folder only holds its place in the layers."""
