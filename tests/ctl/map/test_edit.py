"""Changes of a text: what is meant is done, and nothing beside it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map import edit
from derpctl.map.hujson import parse_hujson
from derpctl.map.spot import Spot
from tests.ctl.map.commented import KEYS, OBJECTS, TREES, written


def spot_of(text: str, *path: str | int) -> Spot:
    found = parse_hujson(text).spot
    assert found is not None
    return found.at(*path)


def inserted(text: str, member: str, *path: str | int) -> str:
    return edit.apply(text, edit.insert(text, spot_of(text, *path), member))


def is_kept(old: str, new: str) -> bool:
    """Tell whether nothing of one text is missing in the other, in its order."""
    signs = iter(new)
    return all(sign in signs for sign in old)


def comments(text: str) -> list[str]:
    return sorted(re.findall(r"c\d+;", text))


def objects(spot: Spot) -> list[Spot]:
    """List all objects of a text."""
    inner = [*(one for _, one in spot.members), *spot.items]
    found = [spot] if isinstance(spot.value, dict) else []
    return found + [deep for one in inner for deep in objects(one)]


@given(st.data(), OBJECTS)
def test_places(data, tree):
    """The place of each value and key is the text that it was read from."""
    text = data.draw(written(tree))

    def check(spot: Spot) -> None:
        assert parse_hujson(text[spot.start : spot.end]).value == spot.value
        for key, member in spot.members:
            assert member.key is not None
            assert json.loads(text[slice(*member.key)]) == key
        if spot.members or spot.items:
            start, end = spot.inside
            assert text[start - 1] + text[end] in ("{}", "[]")
        for one in (*(one for _, one in spot.members), *spot.items):
            check(one)

    check(spot_of(text))


@given(st.data(), OBJECTS, KEYS, TREES)
def test_insert_anywhere(data, tree, key, value):
    """The object has the member as its last; no comment and no byte is lost."""
    text = data.draw(written(tree))
    spot = data.draw(st.sampled_from(objects(spot_of(text))))
    if key in spot.value:
        return
    indent = data.draw(st.sampled_from([None, "\t"]))
    member = f"{json.dumps(key)}: {json.dumps(value, indent=indent)}"
    new = edit.apply(text, edit.insert(text, spot, member))
    spot.value[key] = value
    assert json.dumps(parse_hujson(new).value) == json.dumps(_value_of(text, spot))
    assert is_kept(text, new)


def _value_of(text: str, changed: Spot) -> object:
    """Give what the text would be with one object changed."""

    def again(spot: Spot) -> object:
        if spot.start == changed.start:
            return changed.value
        if isinstance(spot.value, dict):
            return {name: again(one) for name, one in spot.members}
        if isinstance(spot.value, list):
            return [again(one) for one in spot.items]
        return spot.value

    return again(spot_of(text))


@given(st.data(), OBJECTS, KEYS, st.integers())
def test_insert_beside(data, tree, key, value):
    """Next to a member, or in front of all: the same holds, and the order is right."""
    text = data.draw(written(tree))
    spot = data.draw(st.sampled_from(objects(spot_of(text))))
    if key in spot.value:
        return
    names = list(spot.value)
    number = data.draw(st.integers(0, len(names)))
    member = f"{json.dumps(key)}: {value}"
    if number:
        beside = spot.members[number - 1][1]
        edits = edit.insert_after(text, spot, beside, member)
    else:
        edits = [edit.insert_first(text, spot, member)]
    new = edit.apply(text, edits)
    items = list(spot.value.items())
    spot.value = dict([*items[:number], (key, value), *items[number:]])
    assert json.dumps(parse_hujson(new).value) == json.dumps(_value_of(text, spot))
    assert is_kept(text, new)


@given(st.data(), OBJECTS)
def test_remove_anything(data, tree):
    """The member is gone, and nothing else; plain JSON stays plain JSON."""
    text = data.draw(written(tree))
    found = [one for one in objects(spot_of(text)) if one.members]
    if not found:
        return
    spot = data.draw(st.sampled_from(found))
    name, member = data.draw(st.sampled_from(spot.members))
    new = edit.apply(text, edit.remove(text, spot, member))
    del spot.value[name]
    assert json.dumps(parse_hujson(new).value) == json.dumps(_value_of(text, spot))
    if not comments(text) and _is_plain(text):
        json.loads(new)


def _is_plain(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@given(st.data(), OBJECTS, TREES)
def test_replace_anything(data, tree, value):
    """What is outside the value is as it was."""
    text = data.draw(written(tree))
    spot = spot_of(text)
    for _ in range(data.draw(st.integers(0, 3))):
        inner = [*(one for _, one in spot.members), *spot.items]
        spot = data.draw(st.sampled_from(inner)) if inner else spot
    change = edit.replace(text, spot, json.dumps(value, indent="\t"))
    new = edit.apply(text, [change])
    assert new.startswith(text[: spot.start])
    assert new.endswith(text[spot.end :])
    middle = new[spot.start : len(new) - len(text) + spot.end]
    assert parse_hujson(middle).value == value
    assert parse_hujson(new).spot is not None


def test_two_changes_of_one_place():
    """They are refused: one of both would be lost."""
    with pytest.raises(ValueError, match=r"^two changes of what is at 1$"):
        edit.apply("abc", [edit.Edit(0, 2, ""), edit.Edit(1, 3, "")])


MEMBER = '"derpMap": {\n\t"Regions": {},\n}'


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{}", '{\n\t"derpMap": {\n\t\t"Regions": {},\n\t}\n}'),
        ("{ // c\n}", '{ // c\n\t"derpMap": {\n\t\t"Regions": {},\n\t}\n}'),
        (
            '{\n  "a": 1, // one\n  // end\n}\n',
            '{\n  "a": 1, // one\n  // end\n'
            '  "derpMap": {\n    "Regions": {},\n  },\n}\n',
        ),
        (
            '{\r\n\t"a": 1 // one\r\n}',
            '{\r\n\t"a": 1, // one\r\n\t"derpMap": {\r\n\t\t"Regions": {},\r\n\t}\r\n}',
        ),
        ('{"a": 1}', '{"a": 1,\n\t"derpMap": {\n\t\t"Regions": {},\n\t}\n}'),
        ('{"a": 1,}', '{"a": 1,\n\t"derpMap": {\n\t\t"Regions": {},\n\t},\n}'),
        (
            '{"a": "},{", /* { */ }',
            '{"a": "},{", /* { */ \n\t"derpMap": {\n\t\t"Regions": {},\n\t},\n}',
        ),
    ],
)
def test_layout_of_an_insertion(text, result):
    """Line ending, indentation and comma are those of the text."""
    assert inserted(text, MEMBER) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"a": 1}', '{"a": 1, "x": 9}'),
        ('{"a": 1, "b": 2}', '{"a": 1, "x": 9, "b": 2}'),
        ('{"a": 1,}', '{"a": 1, "x": 9,}'),
        ('{\n "a": 1, // one\n "b": 2\n}', '{\n "a": 1, // one\n "x": 9,\n "b": 2\n}'),
        ('{\n "a": 1 // one\n}', '{\n "a": 1, // one\n "x": 9\n}'),
        ('{\n "a": 1\n , "b": 2\n}', '{\n "a": 1\n , "x": 9, "b": 2\n}'),
    ],
)
def test_layout_beside(text, result):
    """It has a line of its own where its neighbour has one, whose comment it leaves."""
    spot = spot_of(text)
    edits = edit.insert_after(text, spot, spot.at("a"), '"x": 9')
    assert edit.apply(text, edits) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"a": 1}', "{}"),
        ('{"a": 1, "b": 2}', '{"b": 2}'),
        ('{"b": 2, "a": 1}', '{"b": 2}'),
        ('{\n "b": 2, // b\n // of a\n "a": 1 // a\n}', '{\n "b": 2 // b\n // of a\n}'),
        ('{\n "a": 1, // a\n "b": 2,\n}', '{\n "b": 2,\n}'),
    ],
)
def test_layout_of_a_removal(text, result):
    """Its line is gone, and the comma before the last."""
    spot = spot_of(text)
    assert edit.apply(text, edit.remove(text, spot, spot.at("a"))) == result


def test_layout_of_a_value():
    """Lines are indented from where the key is."""
    text = '{\n  "a": {\n    "b": 1,\n  },\n}'
    spot = spot_of(text, "a", "b")
    change = edit.replace(text, spot, '{\n\t"c": [\n\t\t1,\n\t],\n}')
    assert edit.apply(text, [change]) == (
        '{\n  "a": {\n    "b": {\n      "c": [\n        1,\n      ],\n    },\n  },\n}'
    )


def test_names():
    """Go knows no case; who looks for one member is not given one of two."""
    spot = spot_of('{"A": 1, "a": 2, "b": 3, "b": 4}')
    assert [one.value for one in spot.named("a")] == [1, 2]
    assert (spot.only("a"), spot.only("b"), spot.only("c")) == (None, None, None)
    assert (spot.at("a").value, spot.at("b").value) == (2, 4)
    with pytest.raises(KeyError):
        spot.at("c")
