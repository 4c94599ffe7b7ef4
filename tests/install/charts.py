"""Renders the chart of this tree with the real Helm, each set of values once."""

import base64
import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.chart import CHART
from tests.support.peers import MissingTool, peer


HELMS = ("helm-3.22.0", "helm-4.3.1")
"""Each writes the same."""

KUBERNETES = "1.34.0"
"""Rendered for that, unless a test says otherwise."""

RELEASE, NAMESPACE = "derp", "net"
NAME = "derp-derp-cluster"
"""What objects of that release are called."""

EXAMPLES = sorted(
    path.name.removesuffix("-values.yaml")
    for path in (CHART / "ci").glob("*-values.yaml")
)
"""Names of the values files of the chart."""

_SECRET = re.compile(r"^  [\w.]+: [A-Za-z0-9+/=]{32,}$", re.MULTILINE)
_BLANK = re.compile(r"\n\s*\n")

Tree = Mapping[str, object]


@functools.cache
def _home() -> str:
    """Give Helm a home of its own: what the user has installed has no say."""
    return tempfile.mkdtemp(prefix="derpmesh-helm-")


def helm(
    name: str, *words: object, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Helm; skips the test where it cannot be built."""
    try:
        program = peer(name)
    except MissingTool as exc:
        pytest.skip(str(exc))
    home = _home()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "HELM_CACHE_HOME": home,
        "HELM_CONFIG_HOME": home,
        "HELM_DATA_HOME": home,
        "KUBECONFIG": os.devnull,
        **(environ or {}),
    }
    return subprocess.run(
        [str(program), *map(str, words)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def template(
    name: str,
    *words: object,
    chart: Path = CHART,
    release: str = RELEASE,
    kubernetes: str = KUBERNETES,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Render; whatever comes of it."""
    fixed = ("--namespace", NAMESPACE, "--kube-version", kubernetes)
    return helm(name, "template", release, chart, *fixed, *words, environ=environ)


@functools.cache
def text_of(name: str, example: str, *words: str) -> str:
    """Render one of the values files of the chart, which works."""
    ended = template(name, "--values", values_file(example), *words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def values_file(example: str) -> Path:
    """Give the path of a values file of the chart."""
    return CHART / "ci" / f"{example}-values.yaml"


@functools.cache
def objects_of(example: str, *words: str) -> "Objects":
    """Render one of the values files with the newest Helm, as objects."""
    return Objects.read(text_of(HELMS[-1], example, *words))


def without_secrets(text: str) -> str:
    """Take out what is made anew each time, and empty lines: versions differ there."""
    return _BLANK.sub("\n", _SECRET.sub("", text))


@dataclass(frozen=True)
class Objects:
    """What a rendering makes."""

    trees: Sequence[dict]

    @classmethod
    def read(cls, text: str) -> "Objects":
        """Read documents of YAML."""
        return cls([tree for tree in yaml.safe_load_all(text) if tree is not None])

    def of(self, *kinds: str) -> list[dict]:
        """Give those of some kinds."""
        return [tree for tree in self.trees if tree["kind"] in kinds]

    def one(self, kind: str, name: str = NAME) -> dict:
        """Give the one with that name."""
        found = [t for t in self.of(kind) if t["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def relay(self) -> dict:
        """Give the workload that relays are of."""
        return next(
            tree
            for tree in self.of("StatefulSet", "DaemonSet")
            if tree["metadata"]["name"] == NAME
        )

    def pods(self) -> Iterator[tuple[str, dict, dict]]:
        """Yield name, labels and spec of every pod that there would be."""
        for tree in self.of("StatefulSet", "DaemonSet"):
            pod = tree["spec"]["template"]
            yield tree["metadata"]["name"], pod["metadata"]["labels"], pod["spec"]
        for tree in self.of("Pod"):
            meta = tree["metadata"]
            yield meta["name"], meta["labels"], tree["spec"]

    def configuration(self, key: str) -> str:
        """Give a file of the relays' ConfigMap."""
        return self.one("ConfigMap")["data"][key]

    def secret(self, name: str) -> dict[str, bytes]:
        """Give the values of a Secret."""
        data = self.one("Secret", name)["data"]
        return {key: base64.b64decode(text) for key, text in data.items()}


def containers(spec: Mapping[str, list]) -> list[dict]:
    """List the containers of a pod, the first ones too."""
    return [*spec.get("initContainers", []), *spec["containers"]]
