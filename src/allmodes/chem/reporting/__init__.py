"""Pages, figures, tables and files that show molecules and their scores."""
