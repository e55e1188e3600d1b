"""What every page and every display shares: pages, figures, progress, tables, numbers in a text."""
