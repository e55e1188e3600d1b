"""What pages and displays share: pages, figures, progress, tables, comparisons, numbers in a text."""
