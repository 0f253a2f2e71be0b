"""What the platform says about itself: events (the catalogue of names), log set-up, the heartbeat file, /proc facts."""
