"""Puts the map where clients get theirs from: a tailnet's policy, headscale's file."""
