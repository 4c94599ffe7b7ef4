"""Files that are replaced whole."""

import os

import pytest

from derpctl.errors import CtlError
from derpctl.files import replace_whole


def test_a_device_is_no_file(tmp_path):
    """It was replaced by one, where root pushed a map to `/dev/full`, as a trial."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CtlError, match="not a regular file"):
        replace_whole(pipe, "x")
    assert pipe.is_fifo()
    with pytest.raises(CtlError, match="not a regular file"):
        replace_whole(tmp_path, "x")
