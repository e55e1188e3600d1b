"""Evaluation of quality and diversity for any file of samples."""
