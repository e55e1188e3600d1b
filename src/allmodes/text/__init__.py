"""Language models: evaluation, training, and small models made on the spot."""
