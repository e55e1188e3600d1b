"""A user's own outcomes and their optima, for `allmodes target`."""
