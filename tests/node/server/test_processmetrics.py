"""What the system says of the process, on Linux of any age."""

import time

import pytest

from derpnode.server.processmetrics import ProcessFacts, process_facts


def test_process_facts():
    """What Linux says of this very process."""
    facts = process_facts()
    assert facts.resident > 1 << 20
    assert facts.virtual >= facts.resident
    assert 0 < facts.open_files < facts.open_files_limit
    assert facts.cpu == pytest.approx(time.process_time(), abs=1)
    assert facts.booted < facts.started


def test_process_facts_of_older_kernels(tmp_path):
    """Before Linux 6.2 the directory says no number, so it is listed."""
    (tmp_path / "self/fd").mkdir(parents=True)
    stat = f"1 (a) b) S {' '.join(str(n) for n in range(2, 50))}"
    (tmp_path / "self/stat").write_text(stat)
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1000\n")
    facts = process_facts(tmp_path)
    assert facts.booted == 1000
    assert facts.virtual == 21


def test_process_facts_without_proc(tmp_path):
    """Where there is no /proc, there are zeros, and no failure."""
    facts = process_facts(tmp_path)
    assert facts == ProcessFacts(open_files_limit=facts.open_files_limit)
