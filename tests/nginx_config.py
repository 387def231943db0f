"""An nginx configuration as a tree, for tests: enough of its grammar to ask what is set where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: A quoted text, one of the three marks, or a word; comments are skipped.
TOKEN = re.compile(r"""\s*(?:\#[^\n]*\n\s*)*('(?:[^'\\]|\\.)*'|[{};]|[^\s{};'\#]+)""")


@dataclass
class Block:
    """`name arguments { … }`: its own directives, and the blocks in it."""

    name: str
    arguments: list[str] = field(default_factory=list)
    directives: list[list[str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def all(self, name: str) -> list[list[str]]:
        """The arguments of every directive of that name in this block alone."""
        return [one[1:] for one in self.directives if one[0] == name]

    def one(self, name: str) -> str:
        """The arguments of the only directive of that name."""
        (found,) = self.all(name)
        return " ".join(found)

    def find(self, name: str, *arguments: str) -> list[Block]:
        return [
            one
            for one in self.blocks
            if one.name == name and one.arguments[: len(arguments)] == list(arguments)
        ]

    def location_of(self, path: str) -> Block:
        """The location nginx chooses: exact, else the first regular expression, else the prefix."""
        locations = self.find("location")
        exact = [one for one in locations if one.arguments[:2] == ["=", path]]
        patterns = [
            one
            for one in locations
            if one.arguments[0] == "~" and re.search(one.arguments[1], path)
        ]
        prefixes = [one for one in locations if one.arguments == ["/"]]
        return (exact + patterns + prefixes)[0]


def read(path: Path) -> Block:
    """Raises ValueError where the text is no configuration."""
    root = Block("main")
    open_blocks, words = [root], []
    for token in _tokens(path.read_text(encoding="utf-8")):
        if token == ";":
            if not words:
                raise ValueError("a directive without a name")
            open_blocks[-1].directives.append(words)
            words = []
        elif token == "{":
            block = Block(words[0], words[1:])
            open_blocks[-1].blocks.append(block)
            open_blocks.append(block)
            words = []
        elif token == "}":
            if words or len(open_blocks) == 1:
                raise ValueError("a block ends in the middle of a directive, or twice")
            open_blocks.pop()
        else:
            words.append(token)
    if words or len(open_blocks) != 1:
        raise ValueError("a block or a directive does not end")
    return root


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while found := TOKEN.match(text, at):
        at = found.end()
        yield found.group(1)
    if re.sub(r"#[^\n]*", "", text[at:]).strip():
        raise ValueError(f"cannot be read: {text[at : at + 40]!r}")
