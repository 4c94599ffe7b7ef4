"""The plane in Python: asyncio readiness, `ssl.MemoryBIO`, one turn at a time."""
