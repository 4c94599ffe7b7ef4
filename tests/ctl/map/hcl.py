"""Reads the HCL that we write: a local value of objects, lists, texts and numbers.

Checked once against github.com/hashicorp/hcl/v2 on drawn maps; see the escapes there.
"""

import json
import re


_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_]\w*)'
    r"|(?P<number>-?[\d.]+(?:e[+-]?\d+)?)|(?P<sign>[{}\[\]=,]))"
)
_ESCAPE = re.compile(
    r'\\(?:u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt"\\]))|(\$\$\{)|(%%\{)|[$%]\{'
)
_WORDS = {"true": True, "false": False, "null": None}


def read_local(text, name):
    """Give the value of `local.NAME`."""
    body = re.sub(r"(?m)^#.*\n", "", text)
    assert body.startswith("locals {")
    tokens = list(_TOKEN.finditer(body, len("locals ")))
    value, rest = _value(tokens)
    assert not rest
    return value[name]


def _value(tokens):
    first, rest = tokens[0], tokens[1:]
    match first.lastgroup:
        case "text":
            return _text(first["text"]), rest
        case "number":
            return json.loads(first["number"]), rest
        case "word":
            return _WORDS[first["word"]], rest
        case _ if first["sign"] == "{":
            return _object(rest)
        case _:
            return _list(rest)


def _object(tokens):
    found = {}
    while tokens[0]["sign"] != "}":
        key, equals = tokens[0], tokens[1]
        assert equals["sign"] == "="
        name = _text(key["text"]) if key["text"] else key["word"]
        found[name], tokens = _value(tokens[2:])
    return found, tokens[1:]


def _list(tokens):
    found = []
    while tokens[0]["sign"] != "]":
        value, tokens = _value(tokens)
        found.append(value)
        assert tokens[0]["sign"] == ","
        tokens = tokens[1:]
    return found, tokens[1:]


def _text(quoted):
    def plain(match):
        short, long, sign, dollar, percent = match.groups()
        if short or long:
            return chr(int(short or long, 16))
        if sign:
            return {"n": "\n", "r": "\r", "t": "\t"}.get(sign, sign)
        assert dollar or percent, "a template"
        return "${" if dollar else "%{"

    return _ESCAPE.sub(plain, quoted[1:-1])
