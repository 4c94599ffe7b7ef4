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
from derpctl.map.canonical import canonical_json
from derpctl.map.headscale import headscale
from derpctl.map.model import DerpMap, HomeParams
from derpctl.map.policy import policy_json
from derpctl.map.read import parse_derp_map, read_derp_map
from derpctl.map.terraform import terraform
from tests.ctl.map.drawn import maps
from tests.interop.conftest import Regions
from tests.interop.region import Region
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
    found_in: Callable[[Value], object] = lambda value: value
    """Where the decoder has the map."""


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


def composed(derp_map: DerpMap) -> DerpMap:
    """Give what Terraform makes of it: every text in its composed form (NFC)."""
    text = canonical_json(without_scores(derp_map))
    return parse_derp_map(unicodedata.normalize("NFC", text))


def regions_alone(derp_map: DerpMap) -> DerpMap:
    """Give what headscale takes from a file."""
    return DerpMap(regions=derp_map.regions)


FORMS = {
    "derpmap": Form("derpmap", canonical_json, whole),
    "acl": Form("acl", acl, without_scores),
    "acl --fragment": Form("acl", pasted, without_scores),
    "acl --style json": Form("acl", policy_json, without_scores),
    "headscale": Form("headscale", headscale, regions_alone),
    "terraform": Form(
        "terraform", terraform, composed, lambda value: value["derp_map"]
    ),
}


@pytest.mark.parametrize("name", FORMS)
@given(derp_map=maps(finite))
@settings(max_examples=EXAMPLES, deadline=None)
def test_drawn_maps_are_understood(consumer: Consumer, name: str, derp_map: DerpMap):
    """Whatever a map says, each format says, in no word that Go does not know."""
    form = FORMS[name]
    meant = form.carried(derp_map)
    value = consumer.reads(form.decoder, form.write(meant))
    assert read_derp_map(form.found_in(value)) == meant


@pytest.mark.parametrize("name", FORMS)
def test_the_map_of_a_region(consumer: Consumer, regions: Regions, name: str):
    """So it is with what the command prints of nodes that run."""
    form = FORMS[name]
    region = regions.single("ours", "pinned")
    printed = export(region, *name.split())
    text = f"{{{printed}}}" if name == "acl --fragment" else printed
    value = consumer.reads(form.decoder, text)
    wanted = parse_derp_map(region.map_file.read_text())
    assert read_derp_map(form.found_in(value)) == wanted


@pytest.mark.parametrize("name", ["acl", "acl --style json", "headscale", "terraform"])
def test_regions_that_are_taken_away(consumer: Consumer, regions: Regions, name: str):
    """A region of Tailscale's is null where the format can say that."""
    form = FORMS[name]
    words = (*name.split(), "--remove-default", "1,2")
    printed = export(regions.single("ours", "pinned"), *words)
    value = form.found_in(consumer.reads(form.decoder, printed))
    found = cast("Mapping[str, Mapping[str, object]]", value)["Regions"]
    assert set(found) == {"1", "2", "900"}
    assert found["1"] is found["2"] is None


def export(region: Region, *words: str) -> str:
    """Print the map of a region in a format."""
    command = ["--config", str(region.document.parent / "derpctl.yaml")]
    return subprocess.run(
        [sys.executable, "-m", "derpctl", *command, "map", "export", "-f", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


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


def test_locals_of_terraform(consumer: Consumer):
    """A Terraform file is read as far as it needs no provider."""
    text = 'locals {\n  derp_map = { Regions = { "900" = null } }\n}\n'
    assert consumer.reads("terraform", text) == {"derp_map": {"Regions": {"900": None}}}
    assert "Variables not allowed" in consumer.refuses(
        "terraform", "locals {\n  derp_map = var.map\n}\n"
    )
