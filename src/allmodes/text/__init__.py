"""Language models: evaluation, training, and small models built at run time."""
