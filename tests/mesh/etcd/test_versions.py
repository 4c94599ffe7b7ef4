"""What differs between the versions of etcd that all else here is run over."""

import json
import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from tests.support.etcd import post


pytestmark = pytest.mark.interop

RELEASES = {"debian": r"3\.[4-6]\.", "current": r"3\.7\.3$"}

REFUSALS = {
    "debian": ({"error", "code", "message"}, {"code", "message"}),
    "current": ({"code", "message"},),
}
"""The fields of an error, by old gateways and by new ones. Debian has had both."""


def test_each_is_what_it_is_called(shared_etcd, etcd_version):
    """Or the same one would be tested twice."""
    [url] = shared_etcd.urls
    assert urlsplit(url).hostname == "127.0.0.1"
    with urllib.request.urlopen(f"{url}/version", timeout=5) as answer:  # noqa: S310
        release = json.load(answer)["etcdserver"]
    assert re.match(RELEASES[etcd_version], release), release


def test_refusals_have_another_shape(shared_etcd, etcd_version):
    """That is why errors are read in all of them."""
    [url] = shared_etcd.urls
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(url, "/lease/revoke", {"ID": 1})
    assert set(json.load(caught.value)) in REFUSALS[etcd_version]
