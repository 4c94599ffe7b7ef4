"""The packets of a day: which arrived, and which had to."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derpnode.client import ClientError


if TYPE_CHECKING:
    from tests.load.day.citizens import Citizen, Stay


SETTLED = 5.0
"""Seconds after which every node knows where a client is, one that fled included."""

MENDED = 5.0
"""Seconds after which a node that is linked again knows all, and is known to all."""

DUE = 10.0
"""Seconds after which a packet will not come any more."""


@dataclass(frozen=True, eq=False)
class Letter:
    """A packet that is under way."""

    sent: float
    """On the monotonic clock."""

    sender: "Stay"
    receiver: "Stay"
    is_safe: bool = field(init=False)
    """Whether it must arrive, unless something happens now."""

    calm: tuple[float, float] = field(init=False)
    """Since when both nodes were well when it was sent."""

    def __post_init__(self) -> None:
        calm = (self.sender.home.calm_since, self.receiver.home.calm_since)
        since = max(self.sender.since, self.receiver.since)
        is_safe = since + SETTLED <= self.sent and max(calm) + MENDED <= self.sent
        object.__setattr__(self, "is_safe", is_safe)
        object.__setattr__(self, "calm", calm)

    @property
    def was_undisturbed(self) -> bool:
        """Whether nothing happened that may have cost it."""
        now = (self.sender.home.calm_since, self.receiver.home.calm_since)
        is_over = self.sender.over.is_set() or self.receiver.over.is_set()
        return self.is_safe and not is_over and now == self.calm


@dataclass
class Tally:
    """What became of packets."""

    arrived: int = 0
    lost: int = 0

    @property
    def share(self) -> float:
        """Part that was lost."""
        return self.lost / max(self.arrived + self.lost, 1)

    def __str__(self) -> str:
        return f"{self.lost} of {self.arrived + self.lost} lost"


class Mail:
    """Everything that is under way.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.undisturbed = Tally()
        """Packets of settled clients on nodes that were well all the time."""

        self.disturbed = Tally()
        """The others; some are lost as a matter of course."""

        self.lost: list[str] = []
        """Those that were lost for no reason, each in words."""

        self.slowest = 0.0
        """Seconds that one of the undisturbed took."""

        self._clock = clock
        self._letters: dict[bytes, Letter] = {}
        self._number = 0

    async def send(self, sender: "Citizen", receiver: "Citizen") -> None:
        """Send a packet, if both are somewhere."""
        if sender.stay is None or receiver.stay is None:
            return
        self._number += 1
        token = self._number.to_bytes(8)
        letter = Letter(self._clock(), sender.stay, receiver.stay)
        self._letters[token] = letter
        try:
            await letter.sender.client.send(receiver.key, token)
        except ClientError:
            self._letters.pop(token, None)

    def arrived(self, token: bytes, at: "Stay") -> None:
        """Take note of a packet; one that came to a stay of before is lost."""
        letter = self._letters.get(token)
        if letter is None:
            return
        del self._letters[token]
        if letter.receiver is at and letter.was_undisturbed:
            self.undisturbed.arrived += 1
            self.slowest = max(self.slowest, self._clock() - letter.sent)
        else:
            self.disturbed.arrived += 1

    def judge(self, older: float = DUE) -> None:
        """Give up what did not come in so many seconds."""
        now = self._clock()
        late = [t for t, one in self._letters.items() if one.sent + older <= now]
        for token in late:
            letter = self._letters.pop(token)
            if not letter.was_undisturbed:
                self.disturbed.lost += 1
                continue
            self.undisturbed.lost += 1
            way = f"{letter.sender.home.name} to {letter.receiver.home.name}"
            self.lost.append(f"{way}, sent {now - letter.sent:.1f} s ago")
