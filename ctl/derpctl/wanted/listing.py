"""Lists nodes in the registry, and takes them out, if that is meant."""

from derpctl.config import CtlConfig
from derpctl.consent import Consent
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.wanted import changes, registry
from derpctl.wanted.apply import preview
from derpmesh.membership.model import Member


async def add_node(
    config: CtlConfig,
    member: Member,
    consent: Consent,
    *,
    timeout: float,  # noqa: ASYNC109 - of each question
) -> tuple[str, int]:
    """List a node, or list it again; give its name and the revision.

    Raises:
        CtlError: It is listed already, or not meant, or the registry cannot be had.
    """
    if not member.name.startswith(str(config.region)):
        value, reason = f"NAME = {member.name}", f"this is region {config.region}"
        hint = f"names are unique over all regions: {config.region} and a letter"
        raise CtlError(value, reason, hint, Exit.USAGE)
    seen = await registry.ask(config, lambda operator: operator.wanted())
    if seen is not None and member.name not in changes.nodes_of(seen):
        wanted = changes.add_nodes(seen, member)
        impact = await preview(config, seen, wanted, timeout=timeout)
        consent.ask(f"node add {member.name}", impact)
    return await registry.ask(config, lambda operator: operator.add(member))


async def remove_node(
    config: CtlConfig,
    name: str,
    consent: Consent,
    *,
    timeout: float,  # noqa: ASYNC109 - of each question
) -> int:
    """Take a node out, so that it does not come back by itself; give the revision.

    Raises:
        CtlError: There is none of that name, or that is not meant, or the registry
            cannot be had.
    """
    seen = await registry.ask(config, lambda operator: operator.wanted())
    if seen is not None and name in changes.nodes_of(seen):
        wanted = changes.remove_node(seen, name)
        consent.ask(
            f"node remove {name}",
            await preview(config, seen, wanted, timeout=timeout),
        )
    return (await registry.ask(config, lambda operator: operator.remove(name))).revision
