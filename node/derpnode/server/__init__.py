"""WAITING: listeners, the public port, STUN, certificates, admission, admin."""
