"""Real-time decision loop core: context binding and features."""
