"""What stands in shared memory: its map, and the structs that the layout hash covers.

The tests read the sources of the core.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onecopy._typed import plan
from onecopy.observer.message_forms import Node, Part, Tag

if TYPE_CHECKING:
    from enum import IntEnum

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
LAYOUT = (NATIVE / "layout" / "layout.hpp").read_text(encoding="utf-8")
NOTE = (ROOT / "docs" / "design" / "0001-the-heart.md").read_text(encoding="utf-8")

# A row of a map: where, what, and (if it says so) how large each is.
ROW = re.compile(
    r"^(?://\||   )\s*(0|[a-z]+_off) +(\w+(?:\[\w*\])?)(?: +([\d.]+ (?:B|KiB)))?", re.MULTILINE
)

# Structs that are no part of a pool, with the reason.
NOT_IN_POOLS = {
    "shareable/": "lies in a segment of its own, with a version of its own: see below",
    "tests/": "lies in memory that a campaign shares with its victims",
    "bindings/": "is the process's own, or a part of a message: see below",
}
SHARED_TYPES = {"shm_atomic", "LockWord", "EventCount"}


def code_of(path: Path) -> str:
    """Give a source file without its comments."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", text)


def body_at(code: str, brace: int) -> str:
    """Give what stands between a brace and the one that closes it."""
    depth = 0
    for at in range(brace, len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if depth == 0:
            return code[brace + 1 : at]
    raise AssertionError("a brace is not closed")


def fields_of(body: str) -> list[tuple[str, str]]:
    """List the data members of a struct: type and name, in their order."""
    flat, depth = "", 0
    for char in body:
        if char == "}":
            depth -= 1
            if depth == 0:
                flat += ";"  # the end of a function or of a nested struct
            continue
        depth += char == "{"
        if depth == 0:
            flat += char
    found = []
    for raw in flat.split(";"):
        line = " ".join(raw.split())
        line = re.sub(r"^(?:public|private|protected):\s*", "", line)
        line = re.sub(r"^alignas\(\d+\)\s*", "", line)
        if "(" in line or line.startswith(
            ("static", "using", "struct", "class", "enum", "template", "friend", "constexpr")
        ):
            continue
        match = re.fullmatch(
            r"((?:[\w:]+)(?:<[^;]*>)?(?: \w+)??) (\w+(?:\[[^;=]*)?(?:, \w+.*)?)", line
        )
        if match:
            names = re.findall(r"(\w+)(?:\[[^\]]*\])*(?:,|$)", match[2])
            found += [(match[1], name) for name in names]
    return found


def structs() -> list[tuple[str, str, str]]:
    """List all structs and classes of the core: file, name and what stands in them."""
    found = []
    for path in sorted([*NATIVE.rglob("*.hpp"), *NATIVE.rglob("*.cpp")]):
        code = code_of(path)
        for match in re.finditer(
            r"\b(?:struct|class)\s+(?:alignas\(\d+\)\s+)?([\w:]+)[^;{}()=]*\{", code
        ):
            name = path.relative_to(NATIVE).as_posix()
            found.append((name, match[1], body_at(code, match.end() - 1)))
    return found


def type_name(text: str) -> str:
    return re.sub(r"<.*", "", text).split("::")[-1].split()[-1]


def shared_structs() -> dict[tuple[str, str], tuple[list[str], list[str] | None]]:
    """Find the structs with a member of a shared type: all fields, and the registered ones."""
    all_structs = [each for each in structs() if not each[0].startswith(tuple(NOT_IN_POOLS))]
    found: dict[tuple[str, str], tuple[list[str], list[str] | None]] = {}
    while True:
        before = len(found)
        for file, name, body in all_structs:
            # What is nested in another struct is known by its last name in its own file only.
            shared = SHARED_TYPES | {
                other.split("::")[-1]
                for where, other in found
                if where == file or "::" not in other
            }
            fields = fields_of(body)
            if any(type_name(kind) in shared for kind, _ in fields):
                listed = re.search(r"ONECOPY_SHARED_STRUCT\(([^)]*)\)", body)
                names = [each.strip() for each in listed[1].split(",")][1:] if listed else None
                found[file, name] = ([field for _, field in fields], names)
        if len(found) == before:
            return found


def test_every_struct_in_shared_memory_is_registered() -> None:
    found = shared_structs()
    # Some that have to be among them: otherwise this test looks at nothing.
    for known in (
        ("layout/layout.hpp", "Header"),
        ("layout/layout.hpp", "Row"),
        ("queue/body.hpp", "Queue::Body"),
        ("queue/message.hpp", "Slot"),
        ("stream/stream.cpp", "Stream::Subscriber"),
        ("locks/condition.cpp", "Condition::Chunk"),
        ("containers/container.hpp", "ContainerTable"),
        ("containers/dict.hpp", "DictRecord"),
    ):
        assert known in found, f"{known}: not found, so this test is blind"
    missing = [f"{file}: {name}" for (file, name), (_, listed) in found.items() if listed is None]
    assert not missing, f"end these structs with ONECOPY_SHARED_STRUCT: {missing}"


def test_every_field_is_registered_in_its_order() -> None:
    for (file, name), (fields, listed) in shared_structs().items():
        assert listed is None or fields == listed, f"{file}: {name}"


def test_every_registered_struct_is_in_the_hash() -> None:
    everything = "\n".join(
        code_of(path)
        for path in [*NATIVE.rglob("*.cpp"), *NATIVE.rglob("*.hpp")]
        if not path.relative_to(NATIVE).as_posix().startswith(tuple(NOT_IN_POOLS))
    )
    for file, name in shared_structs():
        simple = name.split("::")[-1]
        if simple != "Body":
            assert f"{simple}::layout()" in everything, f"{file}: no layout() uses {name}"
            continue
        folder = NATIVE / Path(file).parent
        owner = name.split("::")[0]
        uses = [
            code
            for path in folder.glob("*.cpp")
            if re.search(rf"u64 {owner}::layout\(\)", code := code_of(path))
            and "Body::layout()" in code
        ]
        assert uses, f"{file}: {owner}::layout() does not use {name}"


def test_the_structs_of_messages_are_in_the_hash() -> None:
    """A struct of the bindings whose size is fixed is copied into blocks."""
    code = {path: code_of(path) for path in sorted((NATIVE / "bindings").glob("*.[hc]pp"))}
    fixed = {
        name
        for text in code.values()
        for name in re.findall(r"static_assert\(sizeof\((\w+)\) ==", text)
    }
    assert {"Envelope", "PickleHead", "PickleBuffer", "PackedHead"} <= fixed
    form = (NATIVE / "bindings" / "message_layout.cpp").read_text(encoding="utf-8")
    for name in fixed:
        assert any(f"ONECOPY_SHARED_STRUCT({name}," in text for text in code.values()), name
        assert f"{name}::layout()" in form, name
    assert "kMessageLayout" in (NATIVE / "layout" / "layout.cpp").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("form", "file", "name"),
    [
        (Tag, "wire.hpp", "Tag"),
        (Node, "codec_packed.hpp", "Node"),
        (Part, "codec_packed.hpp", "PartKind"),
    ],
)
def test_the_decoder_of_the_observer_has_the_numbers_of_the_core(
    form: type[IntEnum], file: str, name: str
) -> None:
    code = code_of(NATIVE / "bindings" / file)
    assert {each.name: each.value for each in form} == enumerators(code, name)


def enumerators(code: str, name: str) -> dict[str, int]:
    """Give the names of an enumeration, in capitals, and their numbers."""
    body = body_at(code, code.index("{", code.index(f"enum class {name} : u8")))
    numbers: dict[str, int] = {}
    for each in filter(None, map(str.strip, body.split(","))):
        word, _, value = each.partition("=")
        numbers[word.strip().upper()] = int(value) if value else max(numbers.values()) + 1
    return numbers


def test_the_plans_of_typed_channels_have_the_numbers_of_the_core() -> None:
    code = code_of(NATIVE / "bindings" / "codec_typed.hpp")
    kinds = enumerators(code, "Kind")
    words = {"bool": "BOOLEAN", "int": "INTEGER", "float": "REAL", "str": "TEXT"}
    plain = {words.get(name, name.upper()): number for name, number in plan._KIND.items()}
    others = ("SCALAR", "ARRAY", "LIST", "RUN", "TUPLE", "DICT", "RECORD")
    assert plain | {name: getattr(plan, f"_{name}") for name in others} == kinds
    forms = ("OBJECT", "NAMED", "MAPPING", "PARTIAL")
    assert {name: getattr(plan, f"_{name}") for name in forms} == enumerators(code, "Form")
    found = re.search(r"kAny = (-?\d+), kFirstName = (-?\d+)", code)
    assert found is not None
    assert (int(found[1]), int(found[2])) == (plan._ANY, plan._FIRST_NAME)
    schema = code_of(NATIVE / "body" / "schema.hpp")
    assert f"kLongestSchema = {plan._LONGEST // 1024} * 1024;" in schema


def test_the_structs_of_lists_in_segments_are_compared_with_their_version() -> None:
    header = (NATIVE / "shareable" / "shareable.hpp").read_text(encoding="utf-8")
    for name in ("Head", "Entry"):
        assert f"ONECOPY_SHARED_STRUCT({name}," in header, name
    code = (NATIVE / "shareable" / "shareable.cpp").read_text(encoding="utf-8")
    assert "fold_layouts({Head::layout(), Entry::layout()}) == kLayout" in code


def map_of(text: str) -> list[tuple[str, str, str | None]]:
    return [(where, what, size or None) for where, what, size in ROW.findall(text)]


def test_the_map_in_the_design_note_is_the_one_in_the_code() -> None:
    in_code = map_of(LAYOUT[: LAYOUT.index("#pragma once")])
    in_note = map_of(NOTE[NOTE.index("## Memory map") : NOTE.index("### Row")])
    assert len(in_code) == 8
    assert in_note == in_code


def test_the_map_has_the_order_in_which_the_code_lays_it_out() -> None:
    geometry = (NATIVE / "layout" / "layout.cpp").read_text(encoding="utf-8")
    laid = re.findall(r"g\.(\w+_off) =", geometry)
    assert ["0", *laid] == [where for where, _, _ in map_of(LAYOUT[: LAYOUT.index("#pragma once")])]


@pytest.mark.parametrize("struct", ["Row", "NameEntry", "Block"])
def test_the_map_has_the_sizes_that_the_code_asserts(struct: str) -> None:
    asserted = re.search(rf"static_assert\(sizeof\({struct}\) == (\d+)\)", LAYOUT)
    assert asserted is not None
    said = {
        what.split("[")[0]: size for _, what, size in map_of(LAYOUT[: LAYOUT.index("#pragma once")])
    }
    assert said[struct] == f"{asserted[1]} B"
