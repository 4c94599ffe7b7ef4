"""The wire: bytes to values and back. No I/O, no clock, no randomness, no logs."""
