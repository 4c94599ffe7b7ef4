"""The page on Helm: its commands that need no cluster are run, in their order."""

import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tests.docs.blocks import blocks_of
from tests.install.charts import HELMS, NAME, objects_of
from tests.support.docs import ROOT
from tests.support.peers import MissingTool, peer


pytestmark = pytest.mark.install

PAGE = ROOT / "docs" / "howto" / "helm.md"


@pytest.mark.parametrize("name", HELMS)
def test_commands_succeed(name: str, tmp_path: Path):
    """In a folder where the tree is, with nothing but Helm."""
    try:
        program = peer(name)
    except MissingTool as exc:
        pytest.skip(str(exc))
    (tmp_path / "bin").mkdir()
    # What is built here is told no version of Kubernetes, as what is released is.
    told = tmp_path / "bin" / "helm"
    told.write_text(
        "#!/bin/sh\n"
        'case "$1" in template|lint) set -- "$@" --kube-version 1.34.0;; esac\n'
        f'exec {program} "$@"\n'
    )
    told.chmod(0o755)
    (tmp_path / "helm").symlink_to(ROOT / "helm")
    env = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": os.devnull,
    }
    found = [block for block in blocks_of(PAGE) if block.mark == "sh helm"]
    assert found
    for block in found:
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", block.text],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{block}: {ended.stdout}{ended.stderr}"
    assert_good_for_etcd(tmp_path / "etcd")


def assert_good_for_etcd(folder: Path) -> None:
    """See that what was made by hand names what the certificate of the chart does."""
    assert sorted(path.name for path in folder.iterdir()) == [
        *("ca.crt", "tls.crt", "tls.key"),
    ]
    by_chart = objects_of("minimal", "--namespace", "derp").secret(f"{NAME}-etcd-tls")
    wanted = x509.load_pem_x509_certificate(by_chart["tls.crt"])
    found = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    assert found.subject == wanted.subject == x509.Name([])
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage):
        one, other = (
            set(certificate.extensions.get_extension_for_class(kind).value)
            for certificate in (found, wanted)
        )
        assert one == other
