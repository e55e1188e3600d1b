"""Molecules: policies over SMILES, oracles, and the design loop. The only room that imports RDKit."""
