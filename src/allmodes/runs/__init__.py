"""Shared parts of every run: configuration, run folder, provenance, checkpoint, progress."""
