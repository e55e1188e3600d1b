"""How good and how diverse samples are, from any file of samples."""
