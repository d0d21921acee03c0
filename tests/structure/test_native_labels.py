"""tools/native_labels.py finds releases without an acquire, and the other way round."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "native_labels.py"))


def problems(folder: Path, source: str) -> list[str]:
    (folder / "queue").mkdir()
    (folder / "queue" / "queue.cpp").write_text(source)
    return TOOL["problems"](folder)


def test_the_core_has_all_its_labels() -> None:
    assert TOOL["problems"](ROOT / "native") == []


def test_a_pair_is_sound(tmp_path: Path) -> None:
    source = """
    tail.store_release(1);  // COMMIT [queue.tail]
    // [queue.tail]
    return tail.load_acquire();
    """
    assert problems(tmp_path, source) == []


def test_a_release_without_a_label(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "tail.store_release(1);\n")
    assert found == "queue/queue.cpp:1: no label: tail.store_release(1);"


def test_an_acquire_without_a_label(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "\nreturn tail.load_acquire();\n")
    assert found.startswith("queue/queue.cpp:2: no label")


def test_a_label_at_two_releases_only(tmp_path: Path) -> None:
    source = "a.store_release(1);  // [queue.tail]\nb.store_release(1);  // [queue.tail]\n"
    (found,) = problems(tmp_path, source)
    assert found == "[queue.tail] stands at no acquire: queue/queue.cpp:1, queue/queue.cpp:2"


def test_a_label_at_two_acquires_only(tmp_path: Path) -> None:
    source = "a = b.load_acquire();  // [queue.tail]\nc = b.load_acquire();  // [queue.tail]\n"
    (found,) = problems(tmp_path, source)
    assert found.startswith("[queue.tail] stands at no release")


def test_a_sequentially_consistent_operation_is_either_end(tmp_path: Path) -> None:
    source = "a.store_release(1);  // [queue.tail]\nwhile (!a.cas(b, c)) {  // [queue.tail]\n}\n"
    assert problems(tmp_path, source) == []


def test_a_label_that_stands_once(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "fence();  // [commit/sleepers]\n")
    assert found.startswith("[commit/sleepers] stands once")
