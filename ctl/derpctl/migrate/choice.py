"""Picks the relay among the containers of a file."""

from collections.abc import Sequence

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.migrate.container import Container
from derpmesh.images import family_of


def pick(file: str, found: Sequence[Container], service: str = "") -> Container:
    """Give the one that is a relay of a known image.

    Args:
        file: Where they are from, for errors.
        found: All of them.
        service: Its name, if there are several.

    Raises:
        CtlError: There is none, or more than one.
    """
    if service:
        named = [one for one in found if one.name == service]
        if not named:
            names = ", ".join(one.name for one in found if one.name) or "none"
            reason, hint = f"{file} has no such service", f"there are: {names}"
            value = f"--service {service}"
            raise CtlError(value, reason, hint, Exit.NOT_FOUND)
        found = named
    relays = [one for one in found if family_of(one.environ, one.image) is not None]
    if not relays:
        reason = "no variable of an image that we know is in it"
        hint = "see docs/howto/migrate.md for those that are"
        raise CtlError(file, reason, hint, Exit.NOT_FOUND)
    if len(relays) > 1:
        names = ", ".join(one.name for one in relays)
        reason, hint = f"there are several relays: {names}", "name one by --service"
        raise CtlError(file, reason, hint, Exit.USAGE)
    return relays[0]
