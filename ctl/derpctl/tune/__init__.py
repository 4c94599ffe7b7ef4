"""What a machine that relays for thousands should be told, and whether it was."""
