"""What every run shares: configuration, run folder, provenance, checkpoint, progress."""
