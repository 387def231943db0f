"""The English error texts that stand in the source, found by walking its syntax.

A text is what reaches an error: the argument of `Fault(...)`, `InvalidInput(...)`, `ValueError(...)`
and so on, directly or through names, conditions, concatenations, parameters and functions that
return it. What an f-string puts in is a numbered place: `must be at most {0}`.

`python -m tests.source_messages` prints what has no Chinese text, in the form of the catalogue.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from api.messages import catalogue

ROOT = Path(__file__).resolve().parents[1]

#: Not shown to those who ask by HTTP: what is read at the start, computed inside, or said by the
#: command `yutu`, whose words are English.
SILENT = (
    "api/commands/",
    "api/local_ca.py",
    "api/messages.py",
    "api/policy.py",
    "api/security.py",
    "api/serving.py",
    "data/api_keys.py",
    "data/backup.py",
    "data/backup_keep.py",
    "data/cluster.py",
    "data/demo",
    "data/division_changes.py",
    "data/file_faults.py",
    "data/files_situation.py",
    "data/inventory.py",
    "data/log_retirement.py",
    "data/migrations/",
    "data/postgresql.py",
    "data/postmaster.py",
    "data/readers/boundaries.py",
    "data/readers/divisions.py",
    "data/restore.py",
    "data/rulepacks.py",
    "data/settings.py",
    "data/sign_on_settings.py",
    "data/status_file.py",
    "data/zones.py",
    "geo/coverage",
    "geo/criteria.py",
    "geo/packsource.py",
    "geo/rules.py",
)
#: Callable → (position, keyword) of its text.
SINKS: dict[str, tuple[int, str]] = {
    "Fault": (0, "reason"),
    "HTTPException": (1, "detail"),
    "ValueError": (0, ""),
    "YutuError": (0, "message"),
    "problem": (1, "detail"),
}
#: Names of members handed on beside a text, and what is only put in.
CHINESE = re.compile("[\u4e00-\u9fff]")
NO_TEXT = re.compile(r"[\0\s.,:;]*|[a-z_/]+")
#: Functions whose texts are told where they are called.
TOLD = ("reasons_not_ready", "overdue", "unbuilt", "_reasons")
HELD = "\0"  # where an f-string puts something in


@dataclass
class Scope:
    """A function (None for the module) with its parameters, assignments and returns."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | None
    parameters: list[str] = field(default_factory=list)
    method: bool = False
    values: dict[str, list[ast.expr]] = field(default_factory=dict)
    returns: list[ast.expr] = field(default_factory=list)


@dataclass(frozen=True)
class Message:
    """A text with the line it stands at."""

    text: str
    where: str


def modules() -> list[Path]:
    found = [p for folder in ("geo", "data", "api") for p in sorted((ROOT / folder).rglob("*.py"))]
    return [p for p in found if not p.relative_to(ROOT).as_posix().startswith(SILENT)]


class Walk:
    """All modules together, because texts are handed from one to another."""

    def __init__(self, paths: list[Path]) -> None:
        self.calls: list[tuple[str, list[Scope], ast.Call]] = []
        self.functions: dict[str, list[tuple[str, Scope]]] = {}
        self.module_scopes: dict[str, Scope] = {}
        self.sinks: dict[str, set[tuple[int, str]]] = {k: {v} for k, v in SINKS.items()}
        self.messages: dict[str, Message] = {}
        self.unread: set[str] = set()
        for path in paths:
            name = path.relative_to(ROOT).as_posix()
            whole = Scope(None)
            self.module_scopes[name] = whole
            self._read(name, ast.parse(path.read_text(encoding="utf-8")), [whole], False)
        size = -1
        while size != (size := sum(map(len, self.sinks.values()))):
            self.messages.clear()
            self.unread.clear()
            for name, scopes, call in self.calls:
                self._take(name, scopes, call)
            for title in TOLD:
                for name, scope in self.functions[title]:
                    for value in scope.returns:
                        self._keep(name, value, [self.module_scopes[name], scope])

    def _read(self, name: str, node: ast.AST, scopes: list[Scope], in_class: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                bases = {ast.unparse(base).split(".")[-1] for base in child.bases}
                if bases & (self.sinks.keys() | {"Exception"}):
                    self.sinks.setdefault(child.name, {(0, "reason")})
                self._read(name, child, scopes, True)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [a.arg for a in (*child.args.posonlyargs, *child.args.args)]
                method = in_class and arguments[:1] in (["self"], ["cls"])
                scope = Scope(child, arguments[1:] if method else arguments, method)
                scope.parameters += [a.arg for a in child.args.kwonlyargs]
                self.functions.setdefault(child.name, []).append((name, scope))
                self._read(name, child, [*scopes, scope], False)
            else:
                self._note(name, child, scopes)
                self._read(name, child, scopes, in_class)

    def _note(self, name: str, node: ast.AST, scopes: list[Scope]) -> None:
        values = scopes[-1].values
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    values.setdefault(target.id, []).append(node.value)
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for one, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(one, ast.Name):
                            values.setdefault(one.id, []).append(value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            if isinstance(node.target, ast.Name):
                values.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            self._note_loop(node.target, node.iter, values)
        elif isinstance(node, ast.Return | ast.Yield) and node.value is not None:
            scopes[-1].returns.append(node.value)
        elif isinstance(node, ast.Call):
            self.calls.append((name, list(scopes), node))

    @staticmethod
    def _note_loop(target: ast.expr, given: ast.expr, values: dict[str, list[ast.expr]]) -> None:
        """`for mask, reason in ((a, "…"), (b, "…"))`."""
        if isinstance(given, ast.Tuple | ast.List) and isinstance(target, ast.Tuple):
            for row in given.elts:
                if isinstance(row, ast.Tuple):
                    for one, value in zip(target.elts, row.elts, strict=False):
                        if isinstance(one, ast.Name):
                            values.setdefault(one.id, []).append(value)

    def _take(self, name: str, scopes: list[Scope], call: ast.Call) -> None:
        called = ast.unparse(call.func).split(".")[-1]
        for position, keyword in self.sinks.get(called, ()):
            given = [k.value for k in call.keywords if k.arg == keyword]
            if len(call.args) > position and not isinstance(call.args[0], ast.Starred):
                given.append(call.args[position])
            for one in given:
                self._keep(name, one, scopes)

    def _keep(self, name: str, given: ast.expr, scopes: list[Scope]) -> None:
        for text in self._texts(name, scopes, given, ()):
            where = f"{name}:{given.lineno}"
            if not NO_TEXT.fullmatch(text) and not CHINESE.search(text):
                self.messages.setdefault(_numbered(text), Message(_numbered(text), where))

    def _texts(
        self, name: str, scopes: list[Scope], node: ast.expr, seen: tuple[ast.expr, ...]
    ) -> Iterator[str]:
        """Every text an expression may be, HELD where it is not known."""
        if node in seen or len(seen) > 12:
            return
        seen = (*seen, node)
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else HELD for part in node.values
            )
        elif isinstance(node, ast.IfExp | ast.BoolOp):
            either = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
            for one in either:
                yield from list(self._texts(name, scopes, one, seen)) or [HELD]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left = list(self._texts(name, scopes, node.left, seen)) or [HELD]
            right = list(self._texts(name, scopes, node.right, seen)) or [HELD]
            yield from (a + b for a in left for b in right)
        elif isinstance(node, ast.Name):
            yield from self._named(name, scopes, node, seen)
        elif isinstance(node, ast.Call):
            yield from self._returned(name, node, seen)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            for scope in reversed(scopes):
                for held in scope.values.get(node.value.id, ()):
                    for one in held.values if isinstance(held, ast.Dict) else ():
                        yield from self._texts(name, scopes, one, seen)
        elif isinstance(node, ast.List):
            for one in node.elts:
                yield from self._texts(name, scopes, one, seen)
        elif not isinstance(node, ast.Attribute | ast.ListComp | ast.GeneratorExp):
            self.unread.add(f"{name}:{node.lineno}: {ast.unparse(node)}")

    def _named(
        self, name: str, scopes: list[Scope], node: ast.Name, seen: tuple[ast.expr, ...]
    ) -> Iterator[str]:
        for scope in reversed(scopes):
            if node.id in scope.values:
                for value in scope.values[node.id]:
                    yield from list(self._texts(name, scopes, value, seen)) or [HELD]
                return
            if node.id in scope.parameters and scope.node is not None:
                position = scope.parameters.index(node.id)
                title = scope.node.name
                if title == "__init__":
                    return
                self.sinks.setdefault(title, set()).add((position, node.id))
                return

    def _returned(self, name: str, call: ast.Call, seen: tuple[ast.expr, ...]) -> Iterator[str]:
        called = ast.unparse(call.func).split(".")[-1]
        known = self.functions.get(called, [])
        here = [one for one in known if one[0] == name]
        for module, scope in here or known:
            for value in scope.returns:
                yield from self._texts(module, [self.module_scopes[module], scope], value, seen)


def _numbered(text: str) -> str:
    parts = text.split(HELD)
    return parts[0] + "".join(f"{{{n}}}{part}" for n, part in enumerate(parts[1:]))


def messages() -> list[Message]:
    """Every text of the source, once each, in order of module and line."""
    return list(Walk(modules()).messages.values())


def untold() -> list[Message]:
    """The texts without a Chinese one."""
    known = catalogue()
    return [one for one in messages() if known.chinese(sample(one.text)) == sample(one.text)]


def sample(text: str) -> str:
    """A text as it might arrive, something standing in each of its places."""
    return re.sub(r"\{(\d)\}", lambda m: f"<{m[1]}>", text)


if __name__ == "__main__":
    for message in untold():
        shown = json.dumps(message.text, ensure_ascii=False)
        print(f'#: {message.where}\nmsgid {shown}\nmsgstr ""\n')
