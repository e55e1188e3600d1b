"""Docking: from a SMILES to the score of its best pose, or a typed failure."""
