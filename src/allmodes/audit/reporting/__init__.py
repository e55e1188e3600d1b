"""Reports of an audit: as a page, in a terminal, and as JSON."""
