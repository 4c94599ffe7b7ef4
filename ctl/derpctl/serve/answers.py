"""What each request is answered: the map, whole, or plain words."""

from collections.abc import Callable, Collection, Mapping

from aiohttp import web

from derpnode.document import Document


_REVALIDATE = {"Cache-Control": "no-cache"}
_ALWAYS = {"X-Content-Type-Options": "nosniff", "Server": "derpctl"}

ALIVE = "/livez"
"""Answers for as long as the process does."""


def answer(
    request: web.BaseRequest,
    paths: Collection[str],
    document: Callable[[], Document | None],
) -> web.Response:
    """Answer one request.

    There is no other JSON object than the map, whatever happens: headscale does not
    look at the status, and takes one for a map without regions.

    Args:
        request: What is asked.
        paths: Where the map is.
        document: Gives what there is of it now.
    """
    if request.path not in (*paths, ALIVE):
        return _words(404, "not here", {})
    if request.method not in ("GET", "HEAD"):
        return _words(405, "it can be read, and nothing else", {"Allow": "GET, HEAD"})
    if request.path == ALIVE:
        return _words(200, "alive", _REVALIDATE)
    found = document()
    if found is None:
        return _words(503, "no map is known yet", _REVALIDATE)
    return _map(request, found)


def _map(request: web.BaseRequest, found: Document) -> web.Response:
    headers = {"ETag": found.etag, **_REVALIDATE, **_ALWAYS}
    if found.is_known(request.headers.get("If-None-Match", "")):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=found.body,
        content_type="application/json",
        headers=headers,
    )


def _words(status: int, line: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, text=f"{line}\n", headers={**_ALWAYS, **headers})
