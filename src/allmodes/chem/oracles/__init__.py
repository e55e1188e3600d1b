"""Oracles: a list of SMILES in, one typed result each out."""
