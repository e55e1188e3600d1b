"""The checks of an audit: one function for each check, which returns a finding."""
