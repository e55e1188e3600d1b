"""Oracles: from a list of SMILES to one typed result each."""
