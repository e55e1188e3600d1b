"""Docking: a SMILES in, the score of its best pose out, or a typed failure."""
