"""Probes a region as derpctl's configuration has it."""

from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.links import link_rows
from derpctl.map.errors import BadMap
from derpctl.map.read import read_node
from derpctl.probe.matrix import Cell, Outcome, explained
from derpctl.probe.mesh import Absent, Plan, probe
from derpctl.probe.target import Target, from_node
from derpctl.reports import Report, ask_all
from derpnode.client import ClientTls


async def probe_region(config: CtlConfig, plan: Plan) -> list[Cell]:
    """Ask the nodes where they are, probe every pair, and name what is behind it.

    Raises:
        CtlError: No node answers, so that nobody knows where any is.
    """
    reports = await ask_all(config, timeout=plan.timeout)
    if all(report.view is None for report in reports):
        value, reason = f"region {config.region}", reports[0].error or "no answer"
        hint = "check the admin addresses in derpctl's configuration"
        raise CtlError(value, reason, hint, Exit.UNREACHABLE)
    tls = ClientTls(ca_file=config.ca_file)
    cells = await probe({one.name: _target(one, tls) for one in reports}, plan)
    if all(cell.outcome is Outcome.OK for cell in cells):
        return cells
    # Links may have broken meanwhile; what they are now is what is behind it.
    return explained(cells, link_rows(await ask_all(config, timeout=plan.timeout)))


def _target(report: Report, tls: ClientTls) -> Target | Absent:
    if report.view is None:
        reason = f"{report.name}: nobody knows where it is: {report.error}"
        return Absent(Outcome.CONNECT_FAILED, reason)
    try:
        entry = dict(report.view.node.map_entry)
        return from_node(read_node(f"{report.name}.map_entry", entry), tls)
    except (BadMap, CtlError) as exc:
        return Absent(Outcome.CONNECT_FAILED, f"{report.name}: {exc}")
