"""Cases and labels."""
