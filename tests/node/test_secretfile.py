"""Secrets in files that others can read are found; those of a pod are not refused."""

import os

import pytest

from derpnode.secretfile import others_may_read, shown_mode


OURS, OTHERS = 65_532, 100
ROOT = 0


def status(mode, owner, group):
    return os.stat_result((0o100000 | mode, 0, 0, 1, owner, group, 0, 0, 0, 0))


@pytest.fixture(autouse=True)
def user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: OURS)
    monkeypatch.setattr(os, "getegid", lambda: OURS)
    monkeypatch.setattr(os, "getgroups", lambda: [OURS])


@pytest.mark.parametrize(
    ("mode", "owner", "group"),
    [
        (0o600, OURS, OURS),
        (0o400, ROOT, ROOT),
        (0o440, ROOT, OURS),  # a secret of Kubernetes with fsGroup
        (0o640, ROOT, OURS),
        (0o440, ROOT, ROOT),  # a credential of systemd, with an access list
    ],
)
def test_a_secret_of_ours(mode, owner, group):
    assert not others_may_read(status(mode, owner, group))


@pytest.mark.parametrize(
    ("mode", "owner", "group"),
    [
        (0o604, OURS, OURS),
        (0o444, ROOT, OURS),
        (0o640, OURS, OURS),  # nobody but us meant it so
        (0o440, ROOT, OTHERS),
        (0o460, ROOT, OURS),  # the group could change it
    ],
)
def test_a_secret_of_others_too(mode, owner, group):
    assert others_may_read(status(mode, owner, group))


def test_root_takes_no_group(monkeypatch):
    """A node that runs as root is given nothing by root, so a group is too many."""
    monkeypatch.setattr(os, "geteuid", lambda: ROOT)
    assert others_may_read(status(0o440, ROOT, OURS))


def test_modes_are_shown_as_chmod_takes_them():
    assert shown_mode(status(0o640, ROOT, ROOT)) == "0640"
