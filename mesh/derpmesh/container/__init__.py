"""`derpd --container`: takes the place of another relay's image, with its variables."""

from derpmesh.container.adopt import Adopted, adopt
from derpmesh.container.answers import Unanswered


__all__ = ["Adopted", "Unanswered", "adopt"]
