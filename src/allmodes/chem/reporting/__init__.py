"""Pages, figures, tables and files of molecules and their scores."""
