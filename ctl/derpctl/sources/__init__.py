"""Where a map can be had: files, URLs, the region, its past, and who has it by now."""

from derpctl.sources.source import Source


__all__ = ["Source"]
