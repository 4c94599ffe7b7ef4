"""`derpctl map serve`: the map over HTTP, for headscale's `derp.urls` and others."""
