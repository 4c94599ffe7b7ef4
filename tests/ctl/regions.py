"""Real nodes for derpctl to talk to, in a loop beside the test."""

from collections.abc import Sequence

from tests.mesh.region import ADMIN_PORT, Cluster, Place, until


async def start(found: Cluster, letters: str, *apart: str) -> None:
    """Start nodes that are linked, and know that the others serve.

    Those of `apart` are not in the region's file.
    """
    places = [found.place(letter) for letter in letters]
    listed = [place for place in places if place.name not in apart]
    found.write(*listed)
    for place in places:
        await found.start(place)
    await found.linked(*listed)
    others = len(listed) - 1
    await until(
        lambda: all(one.node.region.siblings_serving >= others for one in listed)
    )


def admins(places: Sequence[Place]) -> dict[str, str]:
    """Give the admin URLs, as the fixture `configured` takes them."""
    return {f"_{one.name}": f"http://{one.host}:{ADMIN_PORT}" for one in places}
