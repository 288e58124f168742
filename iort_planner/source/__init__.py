"""What the source gives: depth-dose tables."""
