"""Judges and mends maps wherever they are, by the rules of `derpctl.map`."""
