"""What `map export` prints, read by those for whom it is: Go's decoders, strictly."""

import contextlib
import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derpctl.map.acl import acl, acl_fragment
from derpctl.map.canonical import canonical_json, tree_of
from derpctl.map.derpprobe import derpprobe
from derpctl.map.headscale import headscale
from derpctl.map.model import DerpMap, HomeParams
from derpctl.map.policy import policy_json
from derpctl.map.read import parse_derp_map, read_derp_map
from derpctl.map.terraform import terraform
from tests.ctl.map.drawn import maps
from tests.interop.conftest import Regions
from tests.support.peers import peer


pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(120)]

Value = Mapping[str, object]

# Drawn maps for each format and decoder.
EXAMPLES = 200

finite = st.floats(allow_nan=False, allow_infinity=False)


@dataclass(frozen=True)
class Consumer:
    """A decoder that reads one document after the other."""

    process: subprocess.Popen[str]

    def reads(self, form: str, text: str) -> Value:
        """Return what a text says; fails if it says nothing."""
        verdict = self._ask(form, text)
        assert "error" not in verdict, verdict["error"]
        return cast("Value", verdict["value"])

    def refuses(self, form: str, text: str) -> str:
        """Return why a text says nothing; fails if it says something."""
        return str(self._ask(form, text)["error"])

    def _ask(self, form: str, text: str) -> Mapping[str, object]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        document = {"Format": form, "Text": text}
        self.process.stdin.write(json.dumps(document) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return cast("Mapping[str, object]", json.loads(line))


@contextlib.contextmanager
def running(release: str) -> Iterator[Consumer]:
    """Run a decoder; it ends with its input."""
    with subprocess.Popen(
        [peer(f"decode-{release}")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Consumer(process)
        process.communicate()
    assert process.returncode == 0


@pytest.fixture(scope="module", params=["1.102", "1.104"])
def consumer(built: None, request: pytest.FixtureRequest) -> Iterator[Consumer]:
    """A decoder with the types of one release of Tailscale."""
    with running(request.param) as found:
        yield found


@dataclass(frozen=True)
class Form:
    """One of the formats, and what of a map it carries."""

    decoder: str
    write: Callable[[DerpMap], str]
    carried: Callable[[DerpMap], DerpMap]


def pasted(derp_map: DerpMap) -> str:
    """Do with a fragment what it is for."""
    return f"{{\n// A policy.\n{acl_fragment(derp_map)}}}\n"


def whole(derp_map: DerpMap) -> DerpMap:
    """Give what JSON can say: parameters with nothing in them change nothing."""
    is_idle = derp_map.home_params == HomeParams()
    return replace(derp_map, home_params=None) if is_idle else derp_map


def without_scores(derp_map: DerpMap) -> DerpMap:
    """Give what a policy can say."""
    return replace(derp_map, home_params=None)


def regions_alone(derp_map: DerpMap) -> DerpMap:
    """Give what headscale takes from a file."""
    return DerpMap(regions=derp_map.regions)


def as_probed(derp_map: DerpMap) -> DerpMap:
    """Give what is for derpprobe: without addresses that are none."""
    return parse_derp_map(derpprobe(without_scores(derp_map)))


FORMS = {
    "derpmap": Form("derpmap", canonical_json, whole),
    "acl": Form("acl", acl, without_scores),
    "acl --fragment": Form("acl", pasted, without_scores),
    "acl --style json": Form("acl", policy_json, without_scores),
    "derpprobe": Form("derpmap", derpprobe, as_probed),
    "headscale": Form("headscale", headscale, regions_alone),
}


@pytest.mark.parametrize("name", FORMS)
@given(derp_map=maps(finite))
@settings(max_examples=EXAMPLES, deadline=None)
def test_drawn_maps_are_understood(consumer: Consumer, name: str, derp_map: DerpMap):
    """Whatever a map says, each format says, in no word that Go does not know."""
    form = FORMS[name]
    meant = form.carried(derp_map)
    assert read_derp_map(consumer.reads(form.decoder, form.write(meant))) == meant


@pytest.mark.parametrize("name", FORMS)
def test_the_map_of_a_region(consumer: Consumer, regions: Regions, name: str):
    """So it is with what the command prints of nodes that run."""
    region = regions.single("ours", "pinned")
    form = FORMS[name]
    command = ["--config", str(region.document.parent / "derpctl.yaml")]
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            "derpctl",
            *command,
            "map",
            "export",
            "-f",
            *name.split(),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    text = f"{{{printed}}}" if name == "acl --fragment" else printed
    meant = form.carried(parse_derp_map(region.map_file.read_text()))
    assert consumer.reads(form.decoder, text) == tree_of(meant)


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("derpmap", '{"Regions": {}, "Regoins": {}}', 'unknown field "Regoins"'),
        ("derpmap", '{"Regions": {}} {}', "something follows the value"),
        ("derpmap", '{"Regions": {},}', "invalid character '}'"),
        ("acl", '{"derpMap": {"Nodes": []}}', 'unknown field "Nodes"'),
        ("acl", '{"derpMap": {"Regions": {}}', "unexpected EOF"),
        ("headscale", "Regions: {}\n", "field Regions not found"),
    ],
)
def test_decoders_are_strict(consumer: Consumer, form: str, text: str, reason: str):
    """They would notice: a word that is not Go's, a comma too many, a case."""
    assert reason in consumer.refuses(form, text)


@given(derp_map=maps(st.floats(-180, 180)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_drawn_maps_are_understood_by_terraform(consumer: Consumer, derp_map: DerpMap):
    """What looks like a template is none; texts are in the form that HCL gives them."""
    meant = without_scores(derp_map)
    value = consumer.reads("terraform", terraform(meant))["derp_map"]
    assert tree_of(read_derp_map(value)) == composed(tree_of(meant))


def composed(value: object) -> object:
    """Compose the characters of every text, as HCL does (NFC)."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {key: composed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [composed(item) for item in value]
    return value


def test_locals_of_terraform(consumer: Consumer):
    """A Terraform file is read as far as it needs no provider."""
    text = 'locals {\n  derp_map = { Regions = { "900" = null } }\n}\n'
    assert consumer.reads("terraform", text) == {"derp_map": {"Regions": {"900": None}}}
    assert "Variables not allowed" in consumer.refuses(
        "terraform", "locals {\n  derp_map = var.map\n}\n"
    )
