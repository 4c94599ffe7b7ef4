"""Writes the files of a new node, and derpctl's own."""
