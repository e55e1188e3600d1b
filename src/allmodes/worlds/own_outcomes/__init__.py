"""A user's own outcomes and their optima: what stands behind `allmodes target`."""
