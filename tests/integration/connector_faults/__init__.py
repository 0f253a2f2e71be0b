"""The connector while the world around it fails, a file for each way to fail."""
