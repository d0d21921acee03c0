"""Pools, objects and names, for the campaign."""

from __future__ import annotations

import numpy as np
from crash_things import (
    LARGE,
    everything_named,
    exported_place,
    hold_some,
    kinds_named,
    large_ref,
    leave_other,
    named,
    names,
    opened_other,
    other,
    other_can_be_made,
    other_is_well,
    other_may_be_gone,
    queue_of,
    ref,
    second_ref,
    spoil_and_collect,
    spoil_memory,
    use_named_queue,
    write_to,
    zeros_are_zero,
)
from crash_world import Operation, by_reference, item

import onecopy as oc

POOL_OPERATIONS = [
    # ---- pools
    Operation(
        "create",
        ("Pool.create",),
        lambda w: oc.Pool.create("other", size="1MiB"),
        look=other_can_be_made,
    ),
    Operation(
        "create, memfd",
        ("Pool.create",),
        lambda w: oc.Pool.create("other", size="1MiB", backing="memfd"),
        look=other_can_be_made,
    ),
    Operation("open", ("Pool.open",), lambda w: oc.Pool.open("other"), other, look=other_is_well),
    Operation(
        "open or create", ("Pool.__init__",), lambda w: oc.Pool("other"), other, look=other_is_well
    ),
    Operation(
        "close", ("Pool.close", "Pool.__exit__"), leave_other, other, opened_other, other_is_well
    ),
    Operation(
        "unlink",
        ("Pool.unlink",),
        lambda w: w.other.unlink(),
        other,
        opened_other,
        other_may_be_gone,
    ),
    Operation("collect", ("Pool.collect",), lambda w: w.pool.collect(), ready=hold_some),
    Operation("validate", ("Pool.validate",), lambda w: w.pool.validate(), queue_of(3)),
    Operation("pickle a pool", ("Pool.__reduce__",), lambda w: by_reference(w.pool)),
    # ---- objects
    Operation("put small", ("Pool.put",), lambda w: w.pool.put(1)),
    Operation("put", ("Pool.put",), lambda w: w.pool.put(item(1))),
    Operation(
        "put tree", ("Pool.put",), lambda w: w.pool.put([item(1), np.zeros(9000), b"x" * 5000])
    ),
    Operation(
        "put what lies in the pool", ("Pool.put",), lambda w: w.pool.put([w.pool.zeros(900)])
    ),
    Operation("empty", ("Pool.empty",), lambda w: w.pool.empty(1000)),
    Operation("empty, large", ("Pool.empty",), lambda w: w.pool.empty(5 << 20, "u1")),
    Operation("zeros", ("Pool.zeros",), lambda w: w.pool.zeros(1000)),
    Operation(
        "zeros, large",
        ("Pool.zeros",),
        lambda w: w.pool.zeros(LARGE, "u1"),
        ready=spoil_memory,
        look=zeros_are_zero,
    ),
    Operation(
        "zeros, large, of memory that was given back",
        ("Pool.zeros",),
        lambda w: w.pool.zeros(LARGE, "u1"),
        ready=spoil_and_collect,
        look=zeros_are_zero,
    ),
    Operation(
        "collect, what was written",
        ("Pool.collect",),
        lambda w: w.pool.collect(),
        ready=spoil_memory,
        look=zeros_are_zero,
    ),
    Operation("full", ("Pool.full",), lambda w: w.pool.full(1000, 7)),
    Operation("array", ("Pool.array",), lambda w: w.pool.array(np.arange(1000))),
    Operation("shared_array", ("Pool.shared_array",), lambda w: w.pool.shared_array(1000)),
    Operation(
        "shared_array, named",
        ("Pool.shared_array",),
        lambda w: w.pool.shared_array(1000, name="grid"),
    ),
    Operation("value", ("Pool.value",), lambda w: w.pool.value("d", 1.5)),
    Operation("value, named", ("Pool.value",), lambda w: w.pool.value("d", 1.5, name="level")),
    Operation("Ref.get", ("Ref.get",), lambda w: w.ref.get(), ref),
    Operation(
        "Ref.get, private pages", ("Ref.get",), lambda w: write_to(w.ref.get("on_write")), large_ref
    ),
    Operation("Ref.release", ("Ref.release",), lambda w: w.mine.release(), ready=second_ref),
    Operation(
        "pickle a Ref", ("Ref.__reduce__",), lambda w: by_reference(w.mine), ready=second_ref
    ),
    # ---- places
    Operation("export", ("Pool.export",), lambda w: w.pool.export([bytes(9000)], 1)),
    Operation("export, large", ("Pool.export",), lambda w: w.pool.export([bytes(3 << 20)])),
    Operation(
        "export what lies in the pool",
        ("Pool.export", "Pool.seal", "Pool.where"),
        lambda w: w.pool.export([w.pool.zeros(900)], 1),
    ),
    Operation("import", ("Pool.import_",), lambda w: w.pool.import_([w.place]), exported_place),
    Operation(
        "import, private pages",
        ("Pool.import_",),
        lambda w: np.asarray(w.pool.import_([w.place], "private")[0]).fill(1),
        exported_place,
    ),
    # ---- names
    Operation(
        "pool[...] =",
        ("Pool.__setitem__", "Pool.update"),
        lambda w: w.pool.update(c=item(3)),
        named,
        look=names,
    ),
    Operation(
        "pool[...] = again", ("Pool.__setitem__",), lambda w: w.pool.update(a=4), named, look=names
    ),
    Operation(
        "pool[...]", ("Pool.__getitem__", "Pool.get"), lambda w: w.pool.get("a"), named, look=names
    ),
    Operation(
        "in, len, list",
        ("Pool.__contains__", "Pool.__len__", "Pool.__iter__"),
        lambda w: ("a" in w.pool, len(w.pool), list(w.pool)),
        named,
        look=names,
    ),
    Operation(
        "del pool[...]", ("Pool.__delitem__",), lambda w: w.pool.__delitem__("a"), named, look=names
    ),
    Operation("pop", ("Pool.pop",), lambda w: w.pool.pop("a"), named, look=names),
    Operation("popitem", ("Pool.popitem",), lambda w: w.pool.popitem(), named, look=names),
    Operation("clear", ("Pool.clear",), lambda w: w.pool.clear(), named, several=True),
    Operation(
        "setdefault",
        ("Pool.setdefault",),
        lambda w: w.pool.setdefault("c", item(3)),
        named,
        look=names,
    ),
    Operation(
        "keys, values, items",
        ("Pool.keys", "Pool.values", "Pool.items"),
        lambda w: (list(w.pool.keys()), list(w.pool.values()), list(w.pool.items())),
        named,
        look=names,
    ),
    *(
        Operation(
            f"delete {kind}",
            ("Pool.delete",),
            lambda w: w.pool.delete("thing"),
            make,
            look=kinds_named,
            several=kind == "everything",
            repeats=False,
        )
        for kind, make in (
            ("an object", lambda w: w.pool.update(thing=item(1))),
            ("a queue", lambda w: w.pool.queue("thing").put(item(1))),
            ("a queue that is in use", use_named_queue),
            ("frames", lambda w: w.pool.frames("thing", (100,), "i4", 3)),
            ("a list", lambda w: w.pool.list([item(1), 2], name="thing")),
            ("everything", everything_named),
        )
    ),
    Operation(
        "frames again in another shape",
        ("Pool.frames",),
        lambda w: w.pool.frames("thing", (50, 2), "i4", 2),
        lambda w: w.pool.frames("thing", (100,), "i4", 3).close(),
        look=kinds_named,
        several=True,
    ),
]
