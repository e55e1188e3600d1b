"""Answers of an audit on a page, in a terminal and as JSON."""
