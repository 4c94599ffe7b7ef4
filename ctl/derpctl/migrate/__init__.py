"""Takes over from other relays' container images."""
