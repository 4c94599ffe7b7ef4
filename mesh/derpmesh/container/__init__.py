"""`derpd --container`: takes the place of another relay's image, with its variables."""

from derpmesh.container.adopt import Adopted, adopt


__all__ = ["Adopted", "adopt"]
