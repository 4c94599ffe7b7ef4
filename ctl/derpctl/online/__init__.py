"""What the nodes of a map say to it: rules that need more than the map."""
