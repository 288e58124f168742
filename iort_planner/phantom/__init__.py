"""A specification to a scan with a known truth."""
