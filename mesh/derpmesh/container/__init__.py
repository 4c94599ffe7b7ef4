"""`derpd --container`: takes the place of another relay's image, with its variables."""

from derpmesh.container.adopt import Adopted, adopt
from derpmesh.container.answers import Unanswered
from derpmesh.container.volumes import take_over


__all__ = ["Adopted", "Unanswered", "adopt", "take_over"]
