"""The world stream producer against a real gate over HTTP."""
