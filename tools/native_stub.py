"""Generate the stub of the native core from the built module, and compare the written one with it.

The bindings know the names, kinds and defaults of all parameters, and which members are
attributes. They do not know all types: the core's methods read their arguments themselves, and
Python's text signatures have no place for types. So `_native.pyi` is written by hand, for its
types. This tool checks that everything else in it is equal to the module, in both directions:
every function, class, method, attribute and constant; of each parameter the name, the kind and
the default.

Usage: python tools/native_stub.py [--print]

With ``--print`` it prints the generated stub. Otherwise it prints the differences, and the exit
status is 1 if there are any. It reads the module that is installed: `make lint` installs it first.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

ONLY, EITHER = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
KINDS = {
    ONLY: "positional only",
    EITHER: "any",
    inspect.Parameter.KEYWORD_ONLY: "keyword only",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
SLOT = type(object.__init__)  # a slot of C in Python: it has no signature of its own
# C has one slot for both: a class that can set items also has the slot to delete them, which then
# refuses.
PAIRED = {"__delitem__": "__setitem__", "__delete__": "__set__"}


@dataclass(frozen=True)
class Parameter:
    """A parameter; a positional-only one has no name that a caller could use."""

    name: str
    kind: str
    default: str | None


Signature: TypeAlias = tuple[Parameter, ...]


@dataclass
class Scope:
    """What a module or a class has: functions with their signatures, attributes, classes."""

    functions: dict[str, list[Signature]] = field(default_factory=dict)
    static: set[str] = field(default_factory=set)
    attributes: dict[str, bool | None] = field(default_factory=dict)  # can be set; None: unknown
    classes: dict[str, Scope] = field(default_factory=dict)
    generic: bool = False


# --------------------------------------------------------------------------------- the built module


def signatures_of(function: Any) -> list[Signature] | None:
    """Return the signatures that the core knows for a function; None if it knows none."""
    if hasattr(function, "__nb_signature__"):
        return [signature_of(text, values) for text, _, values in function.__nb_signature__]
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [tuple(parameter(p.name, KINDS[p.kind], p.default) for p in parameters)]


def signature_of(text: str, values: tuple[Any, ...]) -> Signature:
    r"""Read a signature of nanobind: ``def f(a: int, b: int = \0) -> None``."""
    [node] = ast.parse(re.sub(r"\\(\d+)", r"_default_\1", text) + ": ...").body
    found = written(node)
    return tuple(
        Parameter(p.name, p.kind, repr(values[int(p.default.rpartition("_")[2])]))
        if p.default and p.default.startswith("_default_")
        else p
        for p in found
    )


def parameter(name: str, kind: str, default: Any) -> Parameter:
    """Describe a parameter in the form of `inspect`."""
    shown = None if default is inspect.Parameter.empty else repr(default)
    return Parameter("" if kind == KINDS[ONLY] else name, kind, shown)


def built(module: Any) -> Scope:
    """Read the module."""
    scope = Scope()
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if isinstance(value, type):
            scope.classes[name] = built_class(value)
        elif callable(value):
            scope.functions[name] = signatures_of(value) or []
        else:
            scope.attributes[name] = None
    return scope


def built_class(cls: type) -> Scope:
    """Read a class; what every class has counts only where the class adds to it."""
    scope = Scope(generic="__class_getitem__" in vars(cls))
    for name, value in vars(cls).items():
        if name in {"__class_getitem__", "__doc__", "__module__", "__slots__"}:
            continue
        if isinstance(value, property):
            scope.attributes[name] = value.fset is not None
        elif inspect.isgetsetdescriptor(value):
            scope.attributes[name] = None
        elif inspect.ismemberdescriptor(value):
            scope.attributes[name] = True
        elif name != "__new__" and callable(getattr(cls, name)):
            if isinstance(value, SLOT) and (
                hasattr(object, name) or PAIRED.get(name, "") in vars(cls)
            ):
                continue
            signatures = signatures_of(getattr(cls, name))
            if isinstance(value, staticmethod):
                scope.static.add(name)
            elif signatures is not None:
                signatures = [signature[1:] for signature in signatures]  # self
            scope.functions[name] = signatures or []
    if (cls.__text_signature__ or "()") != "()":
        scope.functions.setdefault("__init__", signatures_of(cls) or [])
    if all(isinstance(vars(cls).get(name), SLOT) for name in ("__getitem__", "__len__")):
        scope.functions.setdefault("__iter__", [()])  # Python iterates over sequences itself
    return scope


# --------------------------------------------------------------------------------- the written stub


def written(node: ast.FunctionDef) -> Signature:
    """Read the parameters of a function."""
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(positional) - len(spec.defaults)) + list(spec.defaults)
    found = [
        read(each, KINDS[ONLY if number < len(spec.posonlyargs) else EITHER], default)
        for number, (each, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    if spec.vararg:
        found.append(read(spec.vararg, "*"))
    found += [
        read(each, KINDS[inspect.Parameter.KEYWORD_ONLY], default)
        for each, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    ]
    if spec.kwarg:
        found.append(read(spec.kwarg, "**"))
    return tuple(found)


def read(argument: ast.arg, kind: str, default: ast.expr | None = None) -> Parameter:
    """Read one parameter of a function."""
    shown = None if default is None else ast.unparse(default)
    return Parameter("" if kind == KINDS[ONLY] else argument.arg, kind, shown)


def stub(body: list[ast.stmt], *, in_class: bool = False) -> Scope:
    """Read the stub, or a class of it."""
    scope = Scope()
    for node in body:
        if isinstance(node, ast.ClassDef):
            inner = stub(node.body, in_class=True)
            inner.generic = any("Generic" in ast.unparse(base) for base in node.bases)
            scope.classes[node.name] = inner
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            alias = ast.unparse(node.annotation) == "TypeAlias"
            if not alias:
                scope.attributes[node.target.id] = True if in_class else None
        elif isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
            if "property" in decorators:
                scope.attributes[node.name] = False
            elif "setter" in decorators:
                scope.attributes[node.name] = True
            else:
                signature = written(node)
                if "staticmethod" in decorators:
                    scope.static.add(node.name)
                elif in_class:
                    signature = signature[1:]
                scope.functions.setdefault(node.name, []).append(signature)
    return scope


# ----------------------------------------------------------------------------------- the comparison


def differences(real: Scope, said: Scope, place: str = "") -> list[str]:
    """List the names that only one of them has, and those that differ."""
    found = []
    for what in ("functions", "attributes", "classes"):
        there, told_of = set(getattr(real, what)), set(getattr(said, what))
        if sys.version_info < (3, 12):
            told_of.discard("__buffer__")  # Python did not show the buffers of C before
        found += [
            f"{place}{name}: the stub has it, the module does not" for name in told_of - there
        ]
        found += [
            f"{place}{name}: the module has it, the stub does not" for name in there - told_of
        ]
    for name in real.functions.keys() & said.functions.keys():
        if (name in real.static) != (name in said.static):
            found.append(f"{place}{name}: a static method in one of them")
        found += compare(real.functions[name], said.functions[name], f"{place}{name}")
    for name in real.attributes.keys() & said.attributes.keys():
        settable = {real.attributes[name], said.attributes[name]}
        if settable == {True, False}:
            found.append(f"{place}{name}: can be set in one of them")
    if real.generic != said.generic:
        found.append(f"{place.rstrip('.')}: generic in one of them")
    for name in real.classes.keys() & said.classes.keys():
        found += differences(real.classes[name], said.classes[name], f"{place}{name}.")
    return found


def compare(real: list[Signature], said: list[Signature], name: str) -> list[str]:
    """Compare signatures. The overloads of a stub may omit a default, and nothing else."""
    if not real:
        return [f"{name}: the module does not tell its parameters"]
    [signature, *_] = real
    problems = []
    for overload in said:
        expected = signature
        if len(said) > 1 and len(overload) == len(signature):
            expected = tuple(
                replace(p, default=o.default and p.default)
                for p, o in zip(signature, overload, strict=True)
            )
        if overload != expected:
            has, tells = show(signature), show(overload)
            problems.append(f"{name}: the module has ({has}), the stub ({tells})")
    if len(said) > 1 and signature not in said:
        problems.append(f"{name}: no overload of the stub takes all that the module does")
    return problems


def show(signature: Signature) -> str:
    """Write a signature as text, without types."""
    words = []
    kinds = [p.kind for p in signature]
    for number, p in enumerate(signature):
        if p.kind == "keyword only" and kinds.index(p.kind) == number:
            words.append("*")
        stars = p.kind if "*" in p.kind else ""
        default = f"={p.default}" if p.default else ""
        words.append(f"{stars}{p.name or f'arg{number}'}{default}")
        if p.kind == "positional only" and "positional only" not in kinds[number + 1 :]:
            words.append("/")
    return ", ".join(words)


def generate(scope: Scope, *, in_class: bool = False) -> list[str]:
    """Write the stub that can be read from the module."""
    lines = [f"{name}: Any" for name in scope.attributes]
    for name, signatures in scope.functions.items():
        if name in scope.static:
            lines.append("@staticmethod")
        own = ["self"] if in_class and name not in scope.static else []
        words = [*own, *(show(signature) for signature in signatures[:1] if signature)]
        lines.append(f"def {name}({', '.join(words)}): ...")
    for name, inner in scope.classes.items():
        body = generate(inner, in_class=True) or ["..."]
        lines += ["", f"class {name}:", *(f"    {line}" for line in body)]
    return lines


def main(arguments: list[str]) -> int:
    """Compare, or print; return the exit status."""
    from onecopy import _native

    real = built(_native)
    if "--print" in arguments:
        sys.stdout.writelines(
            f"{line}\n" for line in ["from typing import Any", "", *generate(real)]
        )
        return 0
    path = Path(__file__).resolve().parents[1] / "src" / "onecopy" / "_native.pyi"
    said = stub(ast.parse(path.read_text(encoding="utf-8")).body)
    for scope in (real, said):
        scope.classes = {name: inner for name, inner in scope.classes.items() if name[0] != "_"}
    found = differences(real, said)
    sys.stderr.writelines(f"_native.pyi: {each}\n" for each in sorted(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
