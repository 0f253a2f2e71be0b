"""Decision lane: decide, act once, keep the audit chain."""
