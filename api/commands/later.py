"""Groups of commands of which each is imported when it is called, or when help lists them all.

The modules behind the commands take seconds to import together, and a command needs its own.
"""

from __future__ import annotations

import importlib
from collections import UserDict
from collections.abc import Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_group

from api.start_up import kept


class Later(UserDict[str, Any]):
    """Commands by name; held is where each is to be found, `module:name` of `api.commands`."""

    def __getitem__(self, name: str) -> Any:
        module, _, inside = super().__getitem__(name).partition(":")
        with kept():
            found = getattr(importlib.import_module(f"api.commands.{module}"), inside)
        holder = typer.Typer()
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
        return get_group(holder).commands[name]


class LaterGroup(TyperGroup):
    """A group whose commands are those of `places`, in that order."""

    places: ClassVar[Mapping[str, str]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": Later(self.places)})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def nothing() -> None:
    """What a group does by itself: with a callback Typer takes it for a group."""
