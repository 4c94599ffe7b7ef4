"""Brings clients home: back to the node that their map prefers, slowly."""
