"""A reader of Mapbox vector tiles, independent of the server: features of points with properties."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        yield number, value


def _packed(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _value(data: bytes) -> Any:
    number, value = next(iter(_fields(data)))
    if number == 1:
        return value.decode()
    if number in (2, 3):
        return struct.unpack("<f" if number == 2 else "<d", value)[0]
    if number == 6:
        return _zigzag(value)
    return bool(value) if number == 7 else value


def features(tile: bytes) -> list[dict[str, Any]]:
    """Every feature of every layer: its properties, `layer`, and `at`, its point in tile units."""
    found = []
    for number, layer in _fields(tile):
        assert number == 3
        parts = list(_fields(layer))
        name = next(v for n, v in parts if n == 1).decode()
        keys = [v.decode() for n, v in parts if n == 3]
        values = [_value(v) for n, v in parts if n == 4]
        for n, feature in parts:
            if n == 2:
                inside = dict(_fields(feature))
                tags = _packed(inside.get(2, b""))
                told = {keys[k]: values[v] for k, v in zip(tags[::2], tags[1::2], strict=True)}
                command, x, y = _packed(inside[4])
                assert command == 9, "one point"
                found.append({**told, "layer": name, "at": (_zigzag(x), _zigzag(y))})
    return found
