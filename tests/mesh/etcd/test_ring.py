"""Which endpoint is asked."""

from derpmesh.etcd.ring import Ring


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ring(names: str, clock: Clock | None = None) -> Ring[str]:
    """Make a ring; who fails is away for 5 s."""
    return Ring(names, clock=clock or Clock(), uniform=lambda least, _: least)


def test_the_first_is_asked_until_it_fails():
    """Then the next, and so on around."""
    found = ring("abc")
    assert found.current == "a"
    assert found.leave("a")
    assert found.current == "b"
    assert found.leave("b")
    assert found.current == "c"


def test_one_that_failed_is_passed_over():
    """Until its time is over."""
    clock = Clock()
    found = ring("abc", clock)
    found.leave("a")
    found.leave("b")
    clock.now += 4.9
    found.leave("c")
    assert found.current == "a"  # all failed; it did first
    clock.now += 0.2
    found.leave("a")
    assert found.current == "b"


def test_a_late_failure_of_one_that_was_left():
    """It moves nothing, but is remembered."""
    found = ring("abc")
    found.leave("a")
    assert not found.leave("a")
    assert found.current == "b"


def test_a_single_one_stays():
    """There is no other."""
    found = ring("a")
    assert not found.leave("a")
    assert found.current == "a"
