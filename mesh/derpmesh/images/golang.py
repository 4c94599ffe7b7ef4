"""Values as Go's flag package reads them."""

import math
import re


_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_DURATION = re.compile(r"\+?((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def boolean(text: str) -> bool:
    """Read true or false. Source: ``strconv.ParseBool``.

    Raises:
        ValueError: It is neither.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    message = "neither true nor false"
    raise ValueError(message)


def integer(text: str) -> int:
    """Read a whole number.

    Raises:
        ValueError: It is none.
    """
    if not _INTEGER.fullmatch(text):
        message = "not a whole number"
        raise ValueError(message)
    return int(text)


def port(text: str) -> int:
    """Read a port.

    Raises:
        ValueError: It is none.
    """
    found = integer(text)
    if not 0 <= found < 1 << 16:
        message = "not a port from 0 to 65535"
        raise ValueError(message)
    return found


def rate(text: str) -> float:
    """Read a number, which may be infinite. Source: ``strconv.ParseFloat``.

    Raises:
        ValueError: It is none, or not one of a rate.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if math.isnan(found) or found < 0:
        message = "not a number from 0 to +Inf"
        raise ValueError(message)
    return found


def seconds(text: str) -> float:
    """Read a duration such as `10m0s`. Source: ``time.ParseDuration``.

    Raises:
        ValueError: It is none, or negative.
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        message = "not a duration such as 10m0s"
        raise ValueError(message)
    parts = _PART.findall(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
