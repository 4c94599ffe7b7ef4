"""All rules by their numbers: what each wants, and what happens otherwise."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.map.lint.finding import Finding, Severity


class Online(StrEnum):
    """Whether a rule needs the nodes themselves."""

    NO = "no"
    """The map is enough."""
    PARTLY = "partly"
    """The map shows some of it."""
    YES = "yes"
    """Only nodes can tell."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, whether it fires or not."""

    number: str
    """`DM001`; it never changes."""
    severities: Sequence[Severity]
    """How bad its findings can be, the worst first."""
    title: str
    """What it wants."""
    otherwise: str
    """What happens if that is not so."""
    fixable: bool = False
    """Whether `--fix` can mend it."""
    online: Online = Online.NO

    @property
    def severity(self) -> Severity:
        """How bad it is at worst."""
        return self.severities[0]

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "rule": self.number,
            "severity": self.severity.value,
            "severities": [one.value for one in self.severities],
            "title": self.title,
            "otherwise": self.otherwise,
            "fixable": self.fixable,
            "online": self.online.value,
        }


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

RULES = (
    Rule(
        "DM001",
        (_E,),
        "A region's key in the map is its RegionID.",
        "Clients look for a region that is not there.",
        fixable=True,
    ),
    Rule(
        "DM002",
        (_E,),
        "A node's RegionID is that of its region.",
        "Its latency is booked elsewhere; the region is never a home.",
        fixable=True,
    ),
    Rule(
        "DM003",
        (_E, _W),
        "Region numbers are 1 to 65535, and our own 900 to 999.",
        "Clients keep 16 bits; other numbers may be Tailscale's.",
    ),
    Rule(
        "DM004",
        (_E, _W),
        "A node's Name is unique in the map, and region and letters: 900a.",
        "Clients look up nodes by name in the whole map.",
    ),
    Rule(
        "DM005",
        (_E,),
        "A region has a node that relays.",
        "Clients choose it, and cannot connect.",
    ),
    Rule(
        "DM006",
        (_E,),
        "A region has a node with STUN, or NoMeasureNoHome.",
        "It is never measured.",
    ),
    Rule(
        "DM007",
        (_E,),
        "HostName is a DNS name or an address, without scheme and port; DERPPort is"
        " a port.",
        "Clients dial something else.",
        fixable=True,
    ),
    Rule(
        "DM008",
        (_E, _W),
        "A node has an address family to dial, each with an address of its kind.",
        "The family is off; with both off nobody dials it.",
    ),
    Rule(
        "DM009",
        (_W,),
        "IPv4 is given.",
        "Clients need DNS, which may need the relay.",
    ),
    Rule(
        "DM010",
        (_E,),
        "A pin is sha256-raw: and 64 lower-case hex digits.",
        "It matches no certificate.",
        fixable=True,
    ),
    Rule(
        "DM011",
        (_E,),
        "A node presents the certificate that is pinned, and no other with it.",
        "Clients refuse it, and try no other node.",
        online=Online.YES,
    ),
    Rule(
        "DM012",
        (_E, _W),
        "Neither InsecureForTests nor STUNTestIP is set.",
        "Anybody on the way may be the relay; something else is measured.",
    ),
    Rule(
        "DM013",
        (_E,),
        "CanPort80 goes with an IPv4 address, where port 80 echoes a challenge.",
        "Clients believe that they are behind a captive portal.",
        online=Online.PARTLY,
    ),
    Rule(
        "DM014",
        (_W,),
        "No two nodes share an address, nor a port of it.",
        "One server counts as two, or two are lost together.",
    ),
    Rule(
        "DM015",
        (_W,),
        "RegionCode is unique, 1 to 32 of a-z0-9-; RegionName is there.",
        "Who asks for the code gets the first region.",
    ),
    Rule(
        "DM016",
        (_W,),
        "Avoid is not used.",
        "It is deprecated, and not the same to all clients.",
    ),
    Rule(
        "DM017",
        (_W,),
        "A RegionScore is of a region in the map, and from 0.1 to 10.",
        "It is ignored, or latency hardly matters.",
    ),
    Rule(
        "DM018",
        (_W,),
        "With OmitDefaultRegions there are two regions or more.",
        "Nothing is left when the one is lost.",
    ),
    Rule(
        "DM019",
        (_W, _I),
        "Addresses are public.",
        "Clients elsewhere do not reach the node.",
    ),
    Rule(
        "DM020",
        (_W, _I),
        "A region has at most 6 relays, and not just 2.",
        "Each dead one costs 1.5 s of 10; with 2, each must carry the load of both.",
    ),
    Rule(
        "DM021",
        (_E, _I),
        "A certificate has a third of its lifetime left.",
        "Once it has expired, clients refuse the node.",
        online=Online.YES,
    ),
    Rule(
        "DM022",
        (_W,),
        "For headscale: no region 999.",
        "headscale's embedded server replaces it, if enabled.",
    ),
    Rule(
        "DM023",
        (_W,),
        "For headscale: one node in a region, or no automatic update.",
        "Nodes are shuffled at each update, and all clients reconnect.",
    ),
    Rule(
        "DM024",
        (_E, _W),
        "For headscale: keys are lower-case, and no region is null.",
        "headscale leaves others out without a word.",
        fixable=True,
    ),
    Rule(
        "DM025",
        (_E,),
        "Go can read it, and it is a map of at most 1 MiB.",
        "Clients keep none of it.",
        fixable=True,
    ),
    Rule(
        "DM026",
        (_W,),
        "Latitude and Longitude are both given, and in range.",
        "Exit nodes are suggested by wrong distances.",
    ),
    Rule(
        "DM027",
        (_W,),
        "The map, the registry and the nodes say the same, and the nodes relay.",
        "Clients are sent to a node that does not serve, or is another.",
        online=Online.YES,
    ),
)
"""By number."""

NUMBERS = tuple(rule.number for rule in RULES)

UNREADABLE = "DM025"
"""What cannot be read cannot be judged, so this one cannot be left out."""


def without(findings: Iterable[Finding], ignored: Iterable[str]) -> list[Finding]:
    """Leave out what rules said that nobody wants to hear."""
    left_out = frozenset(ignored)
    return [one for one in findings if one.rule not in left_out]
