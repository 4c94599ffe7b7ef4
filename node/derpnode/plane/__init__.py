"""Moving packets: one contract, and the planes that keep it."""
