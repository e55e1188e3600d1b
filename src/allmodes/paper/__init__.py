"""Figures and tables of the papers, one module each; `allmodes paper list` names them."""
