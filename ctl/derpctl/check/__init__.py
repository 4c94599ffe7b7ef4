"""Whether the nodes of a region agree on who is where, and on what the region is."""
