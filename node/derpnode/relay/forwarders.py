"""Which links know a way to a key, and which of them is used."""

from derpnode.wire.keys import NodeKey


class Forwarders:
    """Links by key, the preferred one first.

    Unlike derper, the newest announcement wins: a client that moved is where it was
    last seen. What a link tells in its initial flood is old news and ranks last.
    """

    def __init__(self) -> None:
        self._links: dict[NodeKey, list[int]] = {}
        self._keys: dict[int, set[NodeKey]] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __contains__(self, key: NodeKey) -> bool:
        return key in self._links

    def keys(self) -> frozenset[NodeKey]:
        """Every key that some link knows."""
        return frozenset(self._links)

    def preferred(self, key: NodeKey) -> int | None:
        """The link that packets for a key take, if there is one."""
        links = self._links.get(key)
        return links[0] if links else None

    def count(self, key: NodeKey) -> int:
        """How many links know a way to a key."""
        return len(self._links.get(key, ()))

    def add(self, key: NodeKey, link: int, *, in_flood: bool) -> bool:
        """Note that a link announces a key; a repeat changes nothing.

        Returns:
            Whether the preferred link changed.
        """
        links = self._links.setdefault(key, [])
        if link in links:
            return False
        self._keys.setdefault(link, set()).add(key)
        if in_flood and links:
            links.append(link)
            return False
        links.insert(0, link)
        return True

    def remove(self, key: NodeKey, link: int) -> bool:
        """Note that a link knows a key no more; unknown pairs change nothing.

        Returns:
            Whether the preferred link changed, or was the last.
        """
        links = self._links.get(key)
        if links is None or link not in links:
            return False
        self._keys[link].discard(key)
        if not self._keys[link]:
            del self._keys[link]
        was_preferred = links[0] == link
        links.remove(link)
        if not links:
            del self._links[key]
        return was_preferred

    def announced(self, link: int) -> frozenset[NodeKey]:
        """The keys that a link announces."""
        return frozenset(self._keys.get(link, ()))

    def keys_of(self, link: int) -> list[NodeKey]:
        """The keys that a link announces, in a stable order."""
        return sorted(self._keys.get(link, ()))
