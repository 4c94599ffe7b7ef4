"""The phases of replacing the mesh key that a command line may name."""

from enum import StrEnum


class Until(StrEnum):
    """After which phase to stop."""

    STAGE = "stage"
    SWITCH = "switch"
