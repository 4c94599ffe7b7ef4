"""Answers the one question that is asked all the time: is this map well?

To build the command line takes longer than to judge a large map, and whoever has a hook
in an editor or a repository waits for both. What is not as plain as that goes the usual
way, which says the same: tests/ctl/test_shortcut.py holds them against each other.
"""

from collections.abc import Sequence
from pathlib import Path


_COMMAND = ("map", "lint")
_STRICT = "--strict"
_ALLOW_SYSTEM_IDS = "--allow-system-ids"
_ALLOW_INSECURE = "--allow-insecure"
_OPTIONS = frozenset({_STRICT, _ALLOW_SYSTEM_IDS, _ALLOW_INSECURE})


def well(arguments: Sequence[str]) -> str | None:
    """Give the file of a map in which nothing is wrong; None goes the usual way.

    Args:
        arguments: The command line without its first word.
    """
    if tuple(arguments[:2]) != _COMMAND:
        return None
    files = [word for word in arguments[2:] if word not in _OPTIONS]
    if len(files) != 1 or files[0].startswith("-"):
        return None
    from derpctl.errors import CtlError  # noqa: PLC0415 - only who asks pays
    from derpctl.map.lint import Terms  # noqa: PLC0415
    from derpctl.map.quick import judge_quickly  # noqa: PLC0415
    from derpctl.texts import is_at_hand, is_yaml, read_text  # noqa: PLC0415

    (name,) = files
    # A pipe can be read but once, and the usual way may have to.
    if not is_at_hand(name) or is_yaml(name) or not _is_file(name):
        return None
    terms = Terms(
        allow_system_ids=_ALLOW_SYSTEM_IDS in arguments,
        allow_insecure=_ALLOW_INSECURE in arguments,
    )
    try:
        text = read_text(name)
    except CtlError:  # the usual way says so
        return None
    return None if judge_quickly(text, terms) is None else name


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except ValueError:  # a zero byte
        return False
