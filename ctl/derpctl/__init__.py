"""derpctl, the operator's command line."""
