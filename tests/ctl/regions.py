"""Real nodes for derpctl to talk to, in a loop beside the test."""

from collections.abc import Sequence

from tests.mesh.region import ADMIN_PORT, Cluster, Place


async def start(found: Cluster, letters: str, *apart: str) -> None:
    """Start nodes that are linked; those of `apart` are not in the region's file."""
    places = [found.place(letter) for letter in letters]
    listed = [place for place in places if place.name not in apart]
    found.write(*listed)
    for place in places:
        await found.start(place)
    await found.linked(*listed)


def admins(places: Sequence[Place]) -> dict[str, str]:
    """Give the admin URLs, as the fixture `configured` takes them."""
    return {f"_{one.name}": f"http://{one.host}:{ADMIN_PORT}" for one in places}
