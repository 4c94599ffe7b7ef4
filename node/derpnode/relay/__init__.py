"""Decisions of a relay: who is connected, who is told, where a key is. No I/O."""
