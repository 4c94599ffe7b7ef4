"""What the variables of other relays' container images mean to `derpd`. Pure."""

from derpmesh.images.draft import Remark
from derpmesh.images.entry import map_entry
from derpmesh.images.families import FAMILIES, Family, family_of
from derpmesh.images.translate import Translation, translate


__all__ = [
    "FAMILIES",
    "Family",
    "Remark",
    "Translation",
    "family_of",
    "map_entry",
    "translate",
]
