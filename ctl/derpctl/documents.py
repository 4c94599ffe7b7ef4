"""The JSON that derpctl prints for other programs."""

import json


API_VERSION = "derpctl/v1"


def document(kind: str, **members: object) -> dict[str, object]:
    """Make a document; every one says of what kind it is."""
    return {"apiVersion": API_VERSION, "kind": kind, **members}


def pretty(found: dict[str, object]) -> str:
    """Write it for eyes and programs.

    Half a surrogate pair, which files of strangers may have and UTF-8 has not, is
    escaped, as JSON allows.
    """
    text = json.dumps(found, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(found: dict[str, object]) -> str:
    """Write it so that a program can read it as a line."""
    return json.dumps(found, separators=(",", ":"))
