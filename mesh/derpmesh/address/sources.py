"""Asks one source after the other, until one has an address.

A source that has nothing is passed over. One that cannot be asked is not: what comes
after it may be another address, and a node whose address changes with the weather is
dialled in vain by every client that has the map.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from derpmesh.address.config import AddressConfig, SourceName
from derpmesh.address.errors import NoAddress
from derpmesh.address.kubernetes import ApiAway, ApiRefused, Cluster
from derpmesh.address.place import Place, Pod, annotated, listed, place_of
from derpmesh.address.stun import mapped


INTERVAL = 2.0
"""Seconds between two looks."""

_ALL = "address.sources"
_PORTS = "nodePort"

T = TypeVar("T")


@dataclass(frozen=True)
class Finder:
    """Finds out where a pod is found.

    Args:
        config: Where to look.
        pod: Whose address it is.
        cluster: The API; None outside of a cluster.
        say: Takes a line for people.
        sleep: Waits so many seconds.
    """

    config: AddressConfig
    pod: Pod
    cluster: Cluster | None
    say: Callable[[str], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def place(self) -> Place:
        """Give what clients dial.

        Raises:
            NoAddress: No source has it, or one cannot be asked.
        """
        for source in self.config.sources:
            found = place_of(await self._ask(source))
            if found is not None:
                self.say(f"{found.host}: from {source}")
                return found
            self.say(f"{source}: nothing there")
        names = ", ".join(self.config.sources)
        hint = "say it in address.hosts, or name another source"
        raise NoAddress(_ALL, f"none of {names} has an address", hint)

    async def ports(self) -> dict[str, int]:
        """Give the ports of the machine that clients dial, by name.

        Raises:
            NoAddress: The pod's Service has none, or cannot be read.
        """
        found = await self._until(_PORTS, self._service_name, self._machine_ports)
        if found is None:
            reason = f"{self._service_name} has no port on the machines"
            raise NoAddress(_PORTS, reason, "is exposure.mode nodePort?")
        return found

    async def _ask(self, source: SourceName) -> list[str]:
        """Ask one source; nothing if it has nothing.

        Raises:
            NoAddress: It cannot be asked.
        """
        match source:
            case SourceName.HOSTS:
                return listed(self.config.hosts, self.pod)
            case SourceName.ANNOTATION:
                return self._annotated()
            case SourceName.HOST_IP:
                return [self.pod.machine_ip] if self.pod.machine_ip else []
            case SourceName.STUN:
                seen = await mapped(self.config.stun_servers)
                return [seen] if seen is not None else []
            case _:
                return await self._ask_cluster(source)

    async def _ask_cluster(self, source: SourceName) -> list[str]:
        whom, question = {
            SourceName.LOAD_BALANCER: (self._service_name, self._balanced),
            SourceName.CLUSTER_IP: (self._service_name, self._own),
            SourceName.NODE_EXTERNAL_IP: (f"Node {self.pod.machine}", self._external),
        }[source]
        return await self._until(source, whom, question) or []

    def _annotated(self) -> list[str]:
        where = self.config.annotations
        try:
            return annotated(where.file.read_text("utf-8"), where.key)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as exc:
            hint = "mount the pod's annotations there"
            raise NoAddress(
                SourceName.ANNOTATION, f"{where.file}: {exc}", hint
            ) from exc

    async def _until(
        self, source: str, whom: str, question: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        """Ask until there is an answer; None if there is none in time.

        Raises:
            NoAddress: The API refuses, or was away for all of that time.
        """
        waited = 0.0
        while True:
            try:
                found = await question()
                away = None
            except ApiRefused as exc:
                hint = "allow it, as rbac.create does, or name another source"
                raise NoAddress(source, str(exc), hint) from exc
            except ApiAway as exc:
                found, away = None, exc
            if found is not None:
                return found
            if waited >= self.config.timeout:
                break
            why = str(away) if away is not None else f"{whom} has none yet"
            self.say(f"{source}: {why} ({waited:g} of {self.config.timeout:g} s)")
            await self.sleep(INTERVAL)
            waited += INTERVAL
        if away is not None:
            hint = "see that the pod may reach the API"
            raise NoAddress(source, str(away), hint) from away
        return None

    @property
    def _service_name(self) -> str:
        return f"Service {self.pod.name}"

    @property
    def _api(self) -> Cluster:
        """The API.

        Raises:
            NoAddress: There is none here.
        """
        if self.cluster is None:
            reason = "there is no cluster here to ask"
            raise NoAddress(_ALL, reason, "run it in a pod, or name other sources")
        return self.cluster

    # Questions to the API. None: not yet.

    async def _balanced(self) -> list[str] | None:
        found = await self._api.service(self.pod.namespace, self.pod.name)
        return (found.balanced or None) if found is not None else None

    async def _own(self) -> list[str] | None:
        found = await self._api.service(self.pod.namespace, self.pod.name)
        return found.own if found is not None else None

    async def _machine_ports(self) -> dict[str, int] | None:
        found = await self._api.service(self.pod.namespace, self.pod.name)
        return (dict(found.machine_ports) or None) if found is not None else None

    async def _external(self) -> list[str] | None:
        found = await self._api.machine(self.pod.machine)
        return found.external if found is not None else None
