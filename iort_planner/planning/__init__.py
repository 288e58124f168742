"""Everything to `Plan`: prescription, dwell time, checks."""
