"""The source of an open relay: everybody may."""

from derpnode.server.admission.verdict import Source, Verdict
from derpnode.wire.keys import NodeKey


class Open(Source):
    """Says yes to every key that was proven."""

    def __init__(self) -> None:
        super().__init__("open")
        self._yes = self.allow("admission is open")

    def look(self, key: NodeKey) -> Verdict:
        """Say yes."""
        return self._yes

    async def ask(self, key: NodeKey, ip: str) -> Verdict:
        """Say yes."""
        return self._yes
