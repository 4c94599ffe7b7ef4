"""Links to the other nodes: which there should be, how one speaks, who dials."""
