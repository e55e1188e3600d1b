"""Molecules: policies over SMILES, oracles, and the design loop. The only package that imports RDKit."""
