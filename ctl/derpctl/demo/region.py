"""Runs a demo from its first file to the end of its last process."""

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from derpctl.admin import NodeView
from derpctl.cluster import put_together
from derpctl.demo import children
from derpctl.demo.children import Child, NodeFailed
from derpctl.demo.etcd import own_etcd
from derpctl.demo.mesh import wait_meshed, write_region
from derpctl.demo.plan import Options, Plan, make_plan
from derpctl.demo.ports import are_free
from derpctl.demo.proof import Place, Proof, prove
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.canonical import canonical_json
from derpctl.map.model import DerpMap
from derpnode.client import ClientTls


_ATTEMPTS = 3  # somebody may take a port between our look and the node's bind
_CLIENTS_OF_ONE = 3  # clients that prove a region of one node
_CLIENTS_OF_EACH = 2  # clients of each of several nodes: one sends, one receives

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Up:
    """A region that is ready."""

    plan: Plan
    children: Sequence[Child]
    views: Sequence[NodeView]
    derp_map: DerpMap
    proof: Proof | None = None


@dataclass
class Demo:
    """One demo; `run` it once.

    Args:
        options: What was asked for.
        hold: Keep it up until a signal, with no proof.
        say: Tells people how it goes.
        show: Prints the result, once, when everything is ready.
    """

    options: Options
    hold: bool
    say: Say
    show: Callable[[Up], None]

    _children: list[Child] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _holding: bool = False

    async def run(self) -> Exit:
        """Bring it up, show it, stop it.

        Raises:
            CtlError: It did not come up, or does not relay.
        """
        with self._signals(asyncio.current_task()):
            try:
                up = await self._bring_up()
                if self.hold:
                    self.show(up)
                    await self._hold()
                else:
                    self.show(await self._prove(up))
            except asyncio.CancelledError:
                if not self._stop.is_set():
                    raise
                return Exit.INTERRUPTED
            finally:
                await children.stop_all(self._children)
        return Exit.OK

    @contextlib.contextmanager
    def _signals(self, task: asyncio.Task[object] | None) -> Iterator[None]:
        """Have signals end the demo, in whatever it is doing."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not self._stop.is_set():
                self._stop.set()
                if task is not None and not self._holding:
                    task.cancel()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, end)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def _bring_up(self) -> Up:
        for attempt in range(_ATTEMPTS):
            plan = make_plan(self.options, fresh_ports=attempt > 0)
            try:
                return await self._start(plan)
            except NodeFailed as exc:
                await children.stop_all(self._children)
                self._children.clear()
                free = are_free(self.options.bind, exc.plan.ports)
                if free or not exc.ended or attempt == _ATTEMPTS - 1:
                    raise _gave_up(exc) from exc
                self.say(f"{exc.plan.name}: somebody took its ports; trying others")
        raise AssertionError  # the last attempt raises

    async def _start(self, plan: Plan) -> Up:
        await write_region(plan)
        for node in plan.nodes:
            self.say(f"starting {node.name}")
            self._children.append(await children.start(node, self.options.settings))
        views = [await children.wait_ready(child) for child in self._children]
        self.say(f"ready: {', '.join(view.name for view in views)}")
        await wait_meshed(self._children, self.say)
        derp_map = put_together(plan.options.region, views)
        text = canonical_json(derp_map)
        await asyncio.to_thread(plan.derp_map_file.write_text, text, "utf-8")
        return Up(plan, list(self._children), views, derp_map)

    async def _prove(self, up: Up) -> Up:
        found = places(up)
        self.say(f"sending packets between {len(found)} clients")
        proof = await prove(found)
        return Up(up.plan, up.children, up.views, up.derp_map, proof)

    async def _hold(self) -> None:
        """Keep it up until a signal; tell of nodes that end, and go on."""
        self._holding = True
        if self._stop.is_set():
            return
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self._watch(one)) for one in self._children]
            await self._stop.wait()
            for task in watching:
                task.cancel()

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        name, pid, log = child.plan.name, child.process.pid, child.plan.log_file
        self.say(f"{name} (pid {pid}): ended with {child.ended}; its log is {log}")


async def with_etcd(demo: Demo) -> Exit:
    """Run a demo with an etcd of its own.

    Raises:
        CtlError: As `Demo.run`; or there is no etcd.
    """
    demo.say("starting etcd")
    async with own_etcd(demo.options.directory) as url:
        demo.options = dataclasses.replace(demo.options, etcd=[url])
        return await demo.run()


def places(up: Up) -> list[Place]:
    """Choose the clients of a proof: two a node, or a few of the only one."""
    each = _CLIENTS_OF_ONE if len(up.views) == 1 else _CLIENTS_OF_EACH
    return [
        _place(up, node_name, number)
        for node_name in (node.name for node in up.plan.nodes)
        for number in range(each)
    ]


def _place(up: Up, node_name: str, number: int) -> Place:
    regions = up.derp_map.regions.values()
    node = next(n for region in regions for n in region.nodes if n.name == node_name)
    planned = next(plan for plan in up.plan.nodes if plan.name == node_name)
    is_open = planned.config.admission.mode == "open"
    return Place(
        name=f"{node_name} client {number + 1}",
        node=node_name,
        number=number,
        host=node.host_name,
        port=node.derp_port or 443,
        addresses=(up.plan.options.bind,),
        tls=ClientTls(node.cert_name, up.plan.ca_file),
        mesh_key=None if is_open else up.plan.mesh_key,
    )


def _gave_up(exc: NodeFailed) -> CtlError:
    hint = children.log_note(exc.plan.log_file, exc.tail)
    code = Exit.CRITICAL if exc.ended else Exit.DEADLINE
    return CtlError(exc.plan.name, exc.reason, hint, code)
