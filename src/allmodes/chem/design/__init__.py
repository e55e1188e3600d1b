"""Molecular design by reinforcement learning: one update, one run, runs side by side."""
