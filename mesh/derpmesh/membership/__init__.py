"""Who is in the region: values that the mesh acts on, and where they come from."""
