"""A region on this machine, to look at and to test against."""
