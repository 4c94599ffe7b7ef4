"""The region: nodes that know each other, and the daemon that runs one of them."""
