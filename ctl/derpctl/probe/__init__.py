"""Probes of a node, from outside, as a client would come."""
