"""Logs that hold means over each step instead of samples: how they are read, and what can be said of them."""
