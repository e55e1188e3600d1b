"""Language models over SMILES: policies, the shipped priors, pretraining."""
