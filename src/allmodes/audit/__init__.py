"""A diagnosis of an objective and its training from a log of samples of any trainer."""
