"""The command tree: one file a command, or a group; heavy imports inside."""
