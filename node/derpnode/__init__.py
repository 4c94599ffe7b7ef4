"""One derpmesh node: a DERP relay and STUN server."""

__version__ = "0.1.0"
