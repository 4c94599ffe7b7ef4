"""A document that is served over HTTP: its bytes, and a name for just these."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """What is answered until there is another one."""

    body: bytes
    etag: str
    """With its quotes. It is a strong one: the same name, the same bytes."""

    @classmethod
    def of(cls, body: bytes) -> "Document":
        """Name a document by its content, so that every server names it alike."""
        return cls(body, f'"{hashlib.sha256(body).hexdigest()}"')

    def is_known(self, if_none_match: str) -> bool:
        """Tell whether a client has it already.

        Args:
            if_none_match: The header; empty where there is none. A name in it may be
                a weak one, as proxies make it. Source: RFC 9110, 13.1.2.
        """
        if if_none_match.strip() == "*":
            return True
        names = (name.strip() for name in if_none_match.split(","))
        return any(name.removeprefix("W/") == self.etag for name in names)
