"""What an audit checks: one function for each check, and the findings that it gives."""
