"""The command tree: one file for a command or a group, heavy imports inside."""
