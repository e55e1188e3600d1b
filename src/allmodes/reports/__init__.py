"""Shared parts of reports: pages, figures, progress, tables, comparisons, number formats."""
