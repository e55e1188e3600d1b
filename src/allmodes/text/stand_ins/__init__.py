"""Small models that are built at run time, for use where no hub is at hand."""
