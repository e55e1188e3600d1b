"""verl's trainers with a method of allmodes."""
