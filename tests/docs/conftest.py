"""What the tests of the documentation share."""

import tempfile
from pathlib import Path

import pytest

from tests.docs.machine import Machine


@pytest.fixture
def machine():
    """A folder to try examples in; pytest's own are too deep for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        yield Machine(Path(folder))
