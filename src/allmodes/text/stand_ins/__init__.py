"""Small models that are built at run time, for use without a model hub."""
