"""The short way to a map that is well: as the usual one, and in a third of its time."""

import itertools
import json
import os
import statistics
import time
from pathlib import Path

import pytest

from derpctl.lint import shortcut
from derpctl.map.lint import Terms
from derpctl.map.quick import judge_quickly
from derpctl.map.source import judge
from tests.ctl.map.test_source import HUJSON, MANY
from tests.ctl.test_lint import SOUND
from tests.ctl.test_main import run


OPTIONS = ("--strict", "--allow-system-ids", "--allow-insecure")
TEXTS = {
    "sound.json": SOUND,
    "policy.json": f'{{"acls": [], "DerpMap": {SOUND}}}',
    "warned.json": SOUND.replace('"8.8.8.8"', '""'),
    "broken.json": SOUND.replace('"a"', '"a:1"'),
    "theirs.json": SOUND.replace("900", "1"),
    "trial.json": SOUND.replace("8.8.8.8", "127.0.0.1"),
    "insecure.json": SOUND.replace('"IPv4"', '"InsecureForTests": true, "IPv4"'),
    "many.json": MANY,
    "commented.hujson": HUJSON.replace("a:443", "a"),
    "named.yaml": SOUND,
    "none.json": "{}",
    "null.json": '{"Regions": {"1": null}}',
    "cut.json": "{",
    "nan.json": '{"Regions": {}, "x": NaN}',
}


@pytest.fixture(params=TEXTS)
def file(request, tmp_path, monkeypatch):
    """Each of the texts, in a file of its name."""
    monkeypatch.chdir(tmp_path)
    Path(request.param).write_text(TEXTS[request.param])
    return request.param


@pytest.mark.parametrize(
    "options",
    [
        words
        for many in range(len(OPTIONS) + 1)
        for words in itertools.combinations(OPTIONS, many)
    ],
)
def test_both_ways_say_the_same(derpctl, monkeypatch, file, options):
    """Whatever is asked, and wherever the file stands among the options."""
    short = derpctl("map", "lint", *options, file)
    assert derpctl("map", "lint", file, *options) == short
    monkeypatch.setattr(shortcut, "well", lambda _: None)
    assert derpctl("map", "lint", file, *options) == short


def test_the_short_way_is_taken(file):
    """Where nothing is wrong with plain JSON, and nowhere else."""
    taken = {"sound.json", "policy.json"}
    assert (shortcut.well(["map", "lint", file]) is not None) is (file in taken)
    allowed = shortcut.well(["map", "lint", "--allow-system-ids", file])
    assert (allowed is not None) is (file in {*taken, "theirs.json"})


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["map"],
        ["map", "lint"],
        ["map", "diff", "map.json"],
        ["-o", "json", "map", "lint", "map.json"],
        ["map", "lint", "map.json", "-o", "json"],
        ["map", "lint", "map.json", "map.json"],
        ["map", "lint", "map.json", "--online"],
        ["map", "lint", "--rules"],
        ["map", "lint", "-"],
        ["map", "lint", "cluster"],
        ["map", "lint", "http://127.0.0.1:9/map.json"],
        ["map", "lint", "."],
        ["map", "lint", "none.json"],
        ["map", "lint", "a\0b"],
    ],
)
def test_what_goes_the_usual_way(tmp_path, monkeypatch, words):
    """All that is more than one file and what it may have in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.json").write_text(SOUND)
    (tmp_path / "cluster").write_text(SOUND)
    assert shortcut.well(words) is None


def test_a_pipe_is_read_once(tmp_path):
    """It is left to the usual way, as what was read of it is gone."""
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    assert shortcut.well(["map", "lint", str(path)]) is None


@pytest.mark.parametrize("name", TEXTS)
def test_quickly(name):
    """What is found well quickly is so at leisure, and the map is the same."""
    found = judge_quickly(TEXTS[name], Terms())
    if found is not None:
        assert found == judge(TEXTS[name], is_yaml=False)


def large() -> str:
    """Make a map of 500 regions, with three nodes in each."""
    regions = {
        str(number): {
            "RegionID": number,
            "RegionCode": f"r{number}",
            "RegionName": f"Region {number}",
            "Latitude": 1.5,
            "Longitude": 2.5,
            "Nodes": [
                {
                    "Name": f"{number}{letter}",
                    "RegionID": number,
                    "HostName": f"{letter}.{number}.example.net",
                    "IPv4": f"8.{number >> 8}.{number & 255}.{place}",
                    "IPv6": f"2606:4700:{number:x}::{place}",
                    "STUNPort": 3478,
                    "CanPort80": True,
                }
                for place, letter in enumerate("abc", 1)
            ],
        }
        for number in range(900, 1400)
    }
    return json.dumps({"Regions": regions}, indent=2)


def test_a_large_map_is_linted_in_no_time(tmp_path):
    """Within three times `import typer`: both in turn, and the medians of both."""
    path = tmp_path / "large.json"
    path.write_text(large())
    words = ("-m", "derpctl", "map", "lint", "--allow-system-ids", str(path))
    yardsticks, took = [], []
    for _ in range(9):
        began = time.perf_counter()
        run("-c", "import typer")
        between = time.perf_counter()
        ended = run(*words)
        yardsticks.append(between - began)
        took.append(time.perf_counter() - between)
        assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    ratio = statistics.median(took) / statistics.median(yardsticks)
    assert ratio < 3, f"{ratio:.2f} times import typer"
