"""One reader of samples for `allmodes audit` and `allmodes evaluate`: rows of any program, as columns."""
