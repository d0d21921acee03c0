"""torch's tensors on the CPU: data like every array."""

import copyreg
import dataclasses
import gc
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import LIMIT, used

import onecopy as oc
from onecopy import _native
from onecopy import multiprocessing as ours

pytestmark = pytest.mark.one_in(2)

SENT = 300_000  # elements: what arrives lies in private pages


@pytest.fixture
def ramp(torch):
    return torch.arange(SENT, dtype=torch.float32)


# ------------------------------------------------------------------------------------- every way


def by_reference(pool, obj):
    ref = pool.put(obj)
    return ref.get, ref


def by_name(pool, obj):
    pool["it"] = obj
    return lambda: pool["it"], None


def by_list(pool, obj):
    items = pool.list([obj])
    return lambda: items[0], items


def by_dict(pool, obj):
    items = pool.dict({"it": obj})
    return lambda: items["it"], items


def by_latest(pool, obj):
    stream = pool.stream()
    stream.publish(obj)
    return stream.latest, stream


def by_redelivery(pool, obj):
    queue = pool.queue(redeliver=True)
    queue.put(obj)

    def look():
        message = queue.get_message()
        message.give_back()
        return message.item

    return look, queue


def by_subscribers(pool, obj):
    stream = pool.stream(depth=4, policy="lossless")
    readers = [stream.subscribe() for _ in range(3)]
    stream.publish(obj)
    return lambda: readers.pop().get(timeout=LIMIT), stream


WAYS = [by_reference, by_name, by_list, by_dict, by_latest, by_redelivery, by_subscribers]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("nested", [False, True])
def test_it_can_be_received_as_often_as_one_likes(pool, torch, ramp, way, nested):
    """Each receiver has its own copy, which it may write; no later write of the sender arrives."""
    look, _kept = way(pool, {"a": [ramp]} if nested else ramp)
    expected = ramp.clone()
    ramp.zero_()
    for _ in range(3):
        got = look()
        got = got["a"][0] if nested else got
        assert type(got) is torch.Tensor
        assert torch.equal(got, expected)
        got.add_(1)
        assert torch.equal(got, expected + 1)
    assert not ramp.any()
    assert not ramp.is_shared()


@pytest.mark.parametrize("copy", [None, False, "on_write", True])
def test_it_can_always_be_written(pool, torch, ramp, copy):
    ref = pool.put([ramp])
    [got] = ref.get(copy)
    got.mul_(2)
    assert torch.equal(ref.get()[0], ramp)
    assert torch.equal(got, ramp * 2)


def test_it_lies_in_the_pool(pool, torch):
    before = used(pool)
    ref = pool.put(torch.zeros(2 << 20, dtype=torch.uint8))
    assert (2 << 20) <= used(pool) - before < (2 << 20) + 10_000
    with pytest.raises(oc.PoolFull):
        pool.put(torch.zeros(pool.size, dtype=torch.uint8))
    kept = ref.get()
    ref.release()
    assert used(pool) - before >= (2 << 20)
    del kept
    gc.collect()
    assert used(pool) == before


def test_small_ones_keep_nothing(pool, torch):
    before = used(pool)
    got = pool.put(torch.arange(5)).get()
    assert got.tolist() == [0, 1, 2, 3, 4]
    got += 1
    assert used(pool) == before


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptors_are_used_up(pool, torch):
    pool.put(torch.zeros(100_000)).get()
    before = descriptors()
    kept = [pool.put(torch.zeros(10_000)) for _ in range(50)]
    got = [ref.get() for ref in kept]
    assert descriptors() == before
    del got


def _produces(queue, nested):
    import torch

    torch.set_num_threads(1)
    for value in range(3):
        tensor = torch.full((300, 400), float(value))
        queue.put({"value": tensor} if nested else tensor)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dropin", [False, True])
def test_the_sender_may_have_ended(pool, start, torch, method, nested, dropin):
    queue = ours.Queue() if dropin else pool.queue()
    assert start(method, _produces, queue, nested).wait() == 0
    for value in range(3):
        got = queue.get(timeout=LIMIT)
        got = got["value"] if nested else got
        assert (got == value).all()
        got += 1


def test_a_later_process_reads_it_from_a_file(tmp_path, torch, ramp):
    path = str(tmp_path / "weights.pool")
    with oc.Pool.create(path, size="16MiB", persistent=True) as pool:
        pool["w"] = {"a": ramp}
    program = (
        "import sys, onecopy as oc; pool = oc.Pool.open(sys.argv[1], mode='r')\n"
        "import torch; t = pool['w']['a']; t += 1; assert t[5] == 6; assert pool['w']['a'][5] == 5"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=LIMIT)


def _sum(tensor):
    return float(tensor.sum())


def _doubles(tensor):
    return tensor.mul_(2)


def _runs(model, tensor):
    return model(tensor)


@pytest.mark.parametrize("copy", [None, "on_write"])
def test_calls_of_an_executor(pool, torch, ramp, copy):
    with oc.Executor(1, pool, copy=copy) as executor:
        assert [executor.submit(_sum, ramp).result(LIMIT) for _ in range(3)] == [_sum(ramp)] * 3
        for _ in range(2):
            doubled = executor.submit(_doubles, ramp).result(LIMIT)
            assert torch.equal(doubled, ramp * 2)
            doubled.zero_()
        model = torch.nn.Linear(100, 10)
        result = executor.submit(_runs, model, torch.ones(5, 100)).result(LIMIT)
        assert torch.equal(result, model(torch.ones(5, 100)))
        ref = executor.share(ramp)
        assert executor.submit(_sum_of, ref).result(LIMIT) == _sum(ramp)


def _sum_of(ref):
    return _sum(ref.get())


def test_the_drop_in_pool(torch, ramp):
    with ours.get_context("fork").Pool(1) as workers:
        assert workers.map(_sum, [ramp] * 3) == [_sum(ramp)] * 3
        [doubled] = workers.map(_doubles, [ramp])
        assert torch.equal(doubled, ramp * 2)


# ------------------------------------------------------------------------------------ every kind


@dataclasses.dataclass
class Batch:
    inputs: Any
    labels: Any


def test_objects_of_tensors(pool, torch, ramp):
    model = torch.nn.Sequential(torch.nn.Linear(80, 80), torch.nn.BatchNorm1d(80))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sent = [Batch(ramp, np.arange(5000)), model, model.state_dict(), optimizer]
    ref = pool.put(sent)
    for _ in range(2):
        batch, received, state, optimizer = ref.get()
        assert torch.equal(batch.inputs, ramp)
        assert np.array_equal(batch.labels, np.arange(5000))
        assert optimizer.param_groups[0]["params"][0] is received[0].weight
        for name, value in model.state_dict().items():
            assert torch.equal(received.state_dict()[name], value)
            assert torch.equal(state[name], value)
        received.train()
        received(torch.ones(4, 80)).sum().backward()
        optimizer.step()
        assert not torch.equal(received[1].bias, model[1].bias)


def test_one_tensor_twice_is_one_tensor(pool, ramp):
    first, second = pool.put([ramp, ramp]).get()
    assert first is second


def test_views_of_one_memory_come_apart(pool, ramp):
    """As with pickle, which sends the memory of each."""
    whole, part = pool.put([ramp, ramp[10:20]]).get()
    whole.zero_()
    assert part.tolist() == list(range(10, 20))


def test_a_part_takes_the_room_of_a_part(pool, torch, ramp):
    before = used(pool)
    kept = pool.put(ramp.reshape(-1, 100)[:50, :50])
    assert used(pool) - before < 30_000
    assert torch.equal(kept.get(), ramp.reshape(-1, 100)[:50, :50])


def test_parameters_and_gradients(pool, torch):
    weight = torch.nn.Parameter(torch.randn(100, 100))
    frozen = torch.nn.Parameter(torch.randn(100, 100), requires_grad=False)
    leaf = torch.randn(100, 100, requires_grad=True)
    result = leaf * 2
    got = pool.put([weight, frozen, leaf, result]).get()
    assert [type(each) for each in got] == [torch.nn.Parameter] * 2 + [torch.Tensor] * 2
    assert [each.requires_grad for each in got] == [True, False, True, True]
    assert all(each.is_leaf for each in got)  # the graph stays with the sender, as with pickle
    for one, other in zip(got, (weight, frozen, leaf, result), strict=True):
        assert torch.equal(one, other)


def test_attributes_travel(pool, torch, ramp):
    ramp.unit = "m"
    assert pool.put(ramp).get().unit == "m"


def test_subclasses(pool, torch):
    got = pool.put(torch.arange(5000.0).as_subclass(subclass())).get()
    assert type(got) is subclass()
    assert got[7] == 7


def test_a_subclass_that_says_how_it_is_pickled(pool, torch):
    got = pool.put(torch.arange(5000.0).as_subclass(telling())).get()
    assert type(got) is telling()
    assert got.told == "yes"


def test_what_somebody_has_registered_goes_first(pool, torch, monkeypatch):
    kind = subclass()
    monkeypatch.setitem(copyreg.dispatch_table, kind, lambda _: (str, ("registered",)))
    assert pool.put([torch.arange(5000.0).as_subclass(kind)]).get() == ["registered"]


_kinds: dict[str, Any] = {}


def subclass():
    """Made when torch is there, and found by name."""
    import torch

    if "Subclass" not in _kinds:
        _kinds["Subclass"] = type("Subclass", (torch.Tensor,), {"__module__": __name__})
        globals()["Subclass"] = _kinds["Subclass"]
    return _kinds["Subclass"]


def telling():
    import torch

    def reduce(self, _protocol):
        return _tell, (self.as_subclass(torch.Tensor),)

    if "Telling" not in _kinds:
        members = {"__module__": __name__, "__reduce_ex__": reduce}
        _kinds["Telling"] = type("Telling", (torch.Tensor,), members)
        globals()["Telling"] = _kinds["Telling"]
    return _kinds["Telling"]


def _tell(tensor):
    result = tensor.as_subclass(telling())
    result.told = "yes"
    return result


@pytest.mark.filterwarnings("ignore")  # torch: sparse and quantized tensors change
def test_what_only_torch_understands(pool, torch):
    dense = torch.randn(300, 300)
    for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
        got = pool.put([dense.to_sparse(layout=layout)]).get()[0]
        assert got.layout == layout
        assert torch.equal(got.to_dense(), dense)
    each = torch.quantize_per_tensor(dense, 0.1, 3, torch.qint8)
    by_channel = torch.quantize_per_channel(
        dense, torch.full((300,), 0.1), torch.zeros(300, dtype=torch.long), 0, torch.qint8
    )
    for sent in (each, by_channel):
        got = pool.put(sent).get()
        assert got.qscheme() == sent.qscheme()
        assert torch.equal(got.dequantize(), sent.dequantize())
    nested = torch.nested.nested_tensor([torch.arange(5.0), torch.arange(7.0)])
    assert [each.tolist() for each in pool.put(nested).get().unbind()] == [
        each.tolist() for each in nested.unbind()
    ]
    assert pool.put(torch.empty(5, device="meta")).get().device.type == "meta"


def test_storages(pool, ramp):
    storage = ramp.untyped_storage()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, when this is the first one of the process
        of_type = ramp.storage()
    first, second, typed = pool.put([storage, storage, of_type]).get()
    assert first is second
    assert bytes(first[:8]) == bytes(storage[:8])
    assert typed.dtype == ramp.dtype
    assert typed[5] == 5.0


# ------------------------------------------------------------------------------- memory of the pool


def test_memory_of_the_pool_is_copied_for_it_cannot_be_sealed(pool, torch):
    array = pool.zeros(SENT, "f4")
    tensor = torch.from_numpy(array)
    ref = pool.put(tensor)
    tensor += 1
    assert not ref.get().any()


def test_tensors_over_shared_arrays_stay_shared(pool, torch):
    shared = pool.shared_array((500, 600), "f4")
    tensor = torch.from_numpy(shared)
    for sent in (tensor, tensor[::2, ::3], tensor.T):
        ref = pool.put({"it": sent})
        for copy in (None, "on_write", True):
            got = ref.get(copy)["it"]
            assert (got.shape, got.stride()) == (sent.shape, sent.stride())
            got += 1
    assert shared[1, 1] == 6
    assert shared[0, 0] == 9


# ------------------------------------------------------------------ arrays in a process with torch


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@pytest.mark.parametrize("size", [10_000, SENT])
def test_what_torch_writes_to_a_received_array_reaches_nobody(pool, torch, size):
    array = np.arange(size, dtype="f4")
    pool["it"] = array
    others = pool["it"]
    ways = [
        torch.from_numpy,
        torch.as_tensor,
        lambda got: torch.frombuffer(memoryview(got), dtype=torch.float32),
    ]
    for way in ways:
        got = pool["it"]
        assert not got.flags.writeable
        way(got).add_(1)
        assert np.array_equal(others, array)
        assert np.array_equal(pool["it"], array)
    assert type(pool.put(array).get(copy=False).base) is _native.Lease


def test_torch_is_not_loaded_by_onecopy():
    program = (
        "import sys, onecopy as oc, numpy as np\n"
        "with oc.Pool.create(size='16MiB') as pool:\n"
        "    a = pool.put([np.zeros(300_000)]).get(); b = pool.put(np.zeros(300_000)).get()\n"
        "    assert type(b.base) is oc._native.Lease\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=LIMIT)
