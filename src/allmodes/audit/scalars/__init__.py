"""Logs that hold means over each step instead of samples: their readers and their checks."""
