"""Retrosynthesis: reaction templates, stocks of building blocks, Retro* search over them."""
