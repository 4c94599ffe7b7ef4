"""What operators want of a region, in its registry: looked at, changed, undone."""
