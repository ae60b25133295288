"""Rewrite what is generated from the code's signatures and docstrings: docs/api and tests/public_api.txt.

    python tools/api.py [--check]

``--check`` writes nothing, and exits with status 1 after showing what differs.

Public are the modules of ``MODULES``, in them the names of ``__all__`` (without one: the names defined there that have
no underscore in front), and of classes the members without one.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import griffe

from fastzoo import _files

ROOT = Path(__file__).resolve().parent.parent
LIST = Path("tests/public_api.txt")
PAGES = Path("docs/api")

MODULES = (
    "fastzoo", "fastzoo.model", "fastzoo.stream", "fastzoo.events", "fastzoo.detection", "fastzoo.registry",
    "fastzoo.audio", "fastzoo.frontend", "fastzoo.bench", "fastzoo.boards", "fastzoo.errors", "fastzoo.nn",
    "fastzoo.train", "fastzoo.export", "fastzoo.data",
)  # fmt: skip

INTRODUCTION = """# Reference

Every public name, from the code. What is not here, and what has an underscore in front, may change at any time. A
public name that goes is kept for a release, says what to use instead, and warns with `DeprecationWarning`.

| module | |
|---|---|
"""


class Name(NamedTuple):
    """A public name: where one finds it, and what is there."""

    path: str
    object: griffe.Object

    @property
    def short(self) -> str:
        """``Model.stream`` for ``fastzoo.model.Model.stream``."""
        parts = self.path.split(".")
        return ".".join(parts[-2:] if self.is_member else parts[-1:])

    @property
    def is_member(self) -> bool:
        return self.object.parent is not None and self.object.parent.is_class

    @property
    def is_field(self) -> bool:
        return self.object.is_attribute and not self.is_property

    @property
    def is_property(self) -> bool:
        return "property" in self.object.labels

    @property
    def is_classmethod(self) -> bool:
        return "classmethod" in self.object.labels

    @property
    def parameters(self) -> list[griffe.Parameter]:
        """What a call takes; none for an attribute."""
        if not isinstance(self.object, griffe.Function | griffe.Class):
            return []
        if isinstance(self.object, griffe.Class) and "NamedTuple" in map(str, self.object.bases):
            kind = griffe.ParameterKind.positional_or_keyword
            fields = [one for one in self.object.members.values() if isinstance(one, griffe.Attribute)]
            return [griffe.Parameter(one.name, annotation=one.annotation, kind=kind) for one in fields]
        return [parameter for parameter in self.object.parameters if parameter.name not in ("self", "cls")]

    @property
    def type(self) -> str | None:
        """The annotation of an attribute or of what a function returns; None where there is none."""
        found = self.object
        if isinstance(found, griffe.Function):
            return None if found.returns is None else str(found.returns)
        if not isinstance(found, griffe.Attribute):
            return None
        if found.annotation is None and isinstance(found.parent, griffe.Class):  # a base class may say it
            for base in found.parent.mro():
                same = base.members.get(found.name)
                if isinstance(same, griffe.Attribute) and same.annotation is not None:
                    return str(same.annotation)
        return _literal(found.value) if found.annotation is None else str(found.annotation)

    @property
    def deprecated(self) -> str | None:
        """What to use instead."""
        for decorator in getattr(self.object, "decorators", ()):
            if isinstance(decorator.value, griffe.ExprCall) and decorator.callable_path.endswith(".deprecated"):
                return str(ast.literal_eval(str(decorator.value.arguments[0])))
        return None

    def signature(self, name: str) -> str:
        """The whole signature in one line, for ``name``."""
        if isinstance(self.object, griffe.Class):
            bases = ", ".join(str(base) for base in self.object.bases)
            arguments = f"({self._arguments()})" if self.parameters else ""  # none of an exception's own
            return f"class {name}{arguments}" + (f" from {bases}" if bases else "")
        if isinstance(self.object, griffe.Function):
            kind = "classmethod " if self.is_classmethod else "staticmethod " if self._is_static else ""
            return f"{'deprecated ' if self.deprecated else ''}{kind}{name}({self._arguments()}) -> {self.type}"
        if not isinstance(self.object, griffe.Attribute):
            return name
        has_default = "class-attribute" in self.object.labels and self.object.value is not None
        default = f" = {self.object.value}" if has_default else ""
        return f"{'property ' if self.is_property else ''}{name}: {self.type}{default}"

    @property
    def _is_static(self) -> bool:
        return "staticmethod" in self.object.labels

    def _arguments(self) -> str:
        """``a: int, *, b: str = 'x'``"""
        parts: list[str] = []
        kinds = griffe.ParameterKind
        before = None
        for parameter in self.parameters:
            kind = parameter.kind
            if before is kinds.positional_only and kind is not before:
                parts.append("/")
            if kind is kinds.keyword_only and before not in (kind, kinds.var_positional):
                parts.append("*")
            before = kind
            star = "*" if kind is kinds.var_positional else "**" if kind is kinds.var_keyword else ""
            annotation = "" if parameter.annotation is None else f": {parameter.annotation}"
            default = "" if parameter.default is None or star else f" = {parameter.default}"
            parts.append(f"{star}{parameter.name}{annotation}{default}")
        return ", ".join(parts)

    @property
    def remark(self) -> str:
        """The comment behind an attribute, ``# [n, D]``."""
        if not self.is_field or self.object.lineno is None:
            return ""
        line = self.object.lines_collection[Path(str(self.object.filepath))][self.object.lineno - 1]
        comment = line.partition("  # ")[2]
        return "" if comment.startswith(("type:", "noqa")) else comment.strip()


def _literal(value: str | griffe.Expr | None) -> str | None:
    """The type of a constant that is written out; of other values the code must say it."""
    try:
        return None if value is None else type(ast.literal_eval(str(value))).__name__
    except ValueError:
        return None


def package(root: Path = ROOT) -> griffe.Module:
    """The code, with ``export/`` at its place ``fastzoo.export``."""
    loader = griffe.GriffeLoader(search_paths=[root], docstring_parser=griffe.Parser.google)
    found = loader.load("fastzoo", try_relative_path=False)
    found.set_member("export", loader.load("export", try_relative_path=False))
    loader.resolve_aliases(external=False)
    assert isinstance(found, griffe.Module)
    return found


def module(code: griffe.Module, path: str) -> griffe.Module:
    """The module of this path."""
    found = code if path == code.path else code[path.partition(".")[2]]
    assert isinstance(found, griffe.Module)
    return found


def public(code: griffe.Module, modules: Sequence[str] = MODULES) -> dict[str, list[Name]]:
    """The public names of each public module; members come right after their class."""
    tops = {path: list(_tops(module(code, path))) for path in modules}
    known = {name.object.path for names in tops.values() for name in names}
    return {path: [one for top in names for one in (top, *_members(top, known))] for path, names in tops.items()}


def _tops(here: griffe.Module) -> Iterator[Name]:
    """What a module offers, in the order of its lines."""
    for name, one in here.members.items():
        offered = not (name.startswith("_") or one.is_alias or one.is_module)
        if name in here.exports if here.exports is not None else offered:
            yield Name(f"{here.path}.{name}", one.final_target if isinstance(one, griffe.Alias) else one)


def _members(top: Name, known: set[str]) -> Iterator[Name]:
    """The public members of a class; inherited ones too, where the class that they are from is not public itself."""
    if not isinstance(top.object, griffe.Class):
        return
    for name, member in top.object.all_members.items():
        target = member.final_target if isinstance(member, griffe.Alias) else member
        assert target.parent is not None
        if name.startswith("_") and name != "__call__":
            continue
        if not member.inherited or target.parent.path not in known:
            yield Name(f"{top.path}.{name}", target)


def lines(names: Mapping[str, Sequence[Name]]) -> str:
    """One line per public name."""
    every = [line for path, found in names.items() for line in (path, *(name.signature(name.path) for name in found))]
    return "\n".join([*every, ""])


def faults(names: Mapping[str, Sequence[Name]], code: griffe.Module) -> Iterator[str]:
    """Public names that lack a docstring or a type; the fields of a class are documented with it."""
    for path, found in names.items():
        if not module(code, path).has_docstring:
            yield f"{path} has no docstring"
        for name in found:
            wanted = name.is_property or not isinstance(name.object, griffe.Attribute)
            if wanted and not name.object.has_docstring:
                yield f"{name.path} has no docstring"
            if name.type is None and not isinstance(name.object, griffe.Class):
                yield f"{name.path} has no type"
            yield from (f"{name.path}: {one.name} has no type" for one in name.parameters if one.annotation is None)


def page(path: str, names: Sequence[Name], code: griffe.Module, links: Mapping[str, str]) -> str:
    """The page of a module."""
    parts = [f"# {path}", *_documented(module(code, path), links)]
    own = sorted(names, key=lambda name: name.is_member or not name.is_field)  # the module's own attributes first
    for fields, group in itertools.groupby(own, lambda name: name.is_field):
        if fields:
            parts.append("\n".join(["Attributes:\n", *(_field(name) for name in group)]))
            continue
        for name in group:
            parts.append(f"{'###' if name.is_member else '##'} {name.short}")
            parts.append(f"```python\n{name.signature(name.short if name.is_member else name.path)}\n```")
            if name.deprecated is not None:
                parts.append(f"**Deprecated:** {name.deprecated}.")
            parts.extend(_documented(name.object, links))
    return "\n\n".join(parts) + "\n"


def _field(name: Name) -> str:
    return f"- `{name.signature(name.short)}`" + (f": {name.remark}" if name.remark else "")


def _documented(of: griffe.Object, links: Mapping[str, str]) -> Iterator[str]:
    """The paragraphs of a docstring in Markdown."""
    if of.docstring is None:
        return
    for section in of.docstring.parse(griffe.Parser.google, warnings=False):
        if isinstance(section, griffe.DocstringSectionText):
            for paragraph in section.value.split("\n\n"):
                code = paragraph.startswith(">>> ")
                yield f"```python\n{paragraph}\n```" if code else _marked_up(paragraph, of, links)
            continue
        title = section.kind.value.capitalize() if section.kind.value != "parameters" else "Args"
        items = []
        for item in section.value:
            name = getattr(item, "name", None) or (str(item.annotation) if title == "Raises" else "")
            text = _marked_up(item.description.replace("\n", " "), of, links)
            shown = _marked_up(f":exc:`{name}`", of, links) if title == "Raises" else f"`{name}`"
            items.append(f"- {shown}: {text}" if name else f"- {text}")
        yield "\n".join([f"{title}:\n", *items])


def _marked_up(text: str, of: griffe.Object, links: Mapping[str, str]) -> str:
    """reStructuredText's code and references as Markdown's."""

    def linked(match: re.Match[str]) -> str:
        target = match[1].lstrip("~.")
        path = target if target in links else _resolved(target, of)
        return f"[`{target}`]({links[path]})" if path in links else f"`{target}`"

    text = re.sub(r":[a-z]+:`([^`]+)`", linked, text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _resolved(target: str, of: griffe.Object) -> str:
    """The path of what a docstring calls ``target``, ``Class.method`` or ``method``."""
    first, _, rest = target.partition(".")
    try:
        found = of.resolve(first)
    except griffe.NameResolutionError:
        return target
    return f"{found}.{rest}" if rest else found


def _links(names: Mapping[str, Sequence[Name]]) -> dict[str, str]:
    """Page and anchor of every name, by the path where one finds it and by that where it is defined."""
    found = {path: f"{path}.md" for path in names}
    for path, those in names.items():
        for name in those:
            anchor = "" if name.is_field else "#" + name.short.lower().replace(".", "")
            for key in (name.path, name.object.path):
                found.setdefault(key, f"{path}.md{anchor}")
    return found


def generated() -> dict[Path, str]:
    """The generated files, with the content that they should have."""
    code = package()
    names = public(code)
    links = _links(names)
    files = {LIST: lines(names)}
    rows = []
    for path, found in names.items():
        files[PAGES / f"{path}.md"] = page(path, found, code, links)
        docstring = module(code, path).docstring
        first = "" if docstring is None else docstring.value.partition("\n")[0]
        rows.append(f"| [`{path}`]({path}.md) | {_marked_up(first, module(code, path), links)} |\n")
    files[PAGES / "index.md"] = INTRODUCTION + "".join(rows)
    return files


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(arguments).check
    files = generated()
    surplus = [path.relative_to(root) for path in (root / PAGES).glob("*") if path.relative_to(root) not in files]
    stale = bool(surplus)
    for name in surplus:
        print(f"{name} is of no public module")
        if not check:
            (root / name).unlink()
    for name, text in files.items():
        path = root / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if text == old:
            continue
        stale = True
        if check:
            shown = difflib.unified_diff(old.splitlines(True), text.splitlines(True), str(name), "generated")
            sys.stdout.writelines(shown)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _files.write(path, text.encode())
            print(f"wrote {name}")
    if check and stale:
        print("run `python tools/api.py` and commit the result", file=sys.stderr)
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
