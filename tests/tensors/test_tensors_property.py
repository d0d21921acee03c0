"""Tensors of any type, shape, strides and nesting arrive as pickle rebuilds them."""

import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onecopy as oc

NAMES = [
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "complex64",
    "complex128",
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float8_e4m3fn",
    "float8_e5m2",
    "complex32",
]
# What torch's own pickling cannot do itself (2.13).
UNPICKLABLE = {"uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "complex32"}
VIEWS = ["plain", "transposed", "step", "column", "narrow", "expanded", "unfolded", "flipped order"]


@st.composite
def recipes(draw):
    """The parts of a tensor; torch is not imported yet."""
    return (
        draw(st.sampled_from(NAMES)),
        tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 40]), max_size=4))),
        draw(st.lists(st.sampled_from(VIEWS), max_size=3)),
        draw(st.booleans()),  # requires_grad, where it can
        draw(st.sampled_from(["none", "conj", "imag"])),
    )


def build(torch, recipe):
    name, size, views, requires_grad, bits = recipe
    dtype = getattr(torch, name)
    count = 1
    for each in size:
        count *= each
    itemsize = torch.empty(0, dtype=dtype).element_size()
    values = (torch.arange(count * itemsize) * 37 % 100).to(torch.uint8)
    tensor = values.view(dtype).reshape(size) if count else torch.empty(size, dtype=dtype)
    if name == "bool":
        tensor = (values % 2).to(torch.bool).reshape(size)
    for view in views:
        tensor = look(tensor, view)
    if tensor.is_complex() and name != "complex32":
        if bits == "conj":
            tensor = tensor.conj()
        elif bits == "imag":
            tensor = tensor.conj().imag
    if requires_grad and tensor.is_floating_point() and not name.startswith("float8"):
        tensor = tensor.detach().requires_grad_()
    return tensor


def look(tensor, view):
    if view == "expanded":
        return tensor.unsqueeze(0).expand(3, *tensor.shape)
    if tensor.dim() == 0 or not tensor.numel():
        return tensor
    if view == "transposed":
        return tensor.transpose(0, -1)
    if view == "step":
        return tensor[..., ::2]
    if view == "column":
        return tensor[..., 0]
    if view == "narrow":
        return tensor[1:]
    if view == "unfolded" and tensor.shape[-1] >= 2:
        return tensor.unfold(-1, 2, 1)
    if view == "flipped order":
        return tensor.permute(*reversed(range(tensor.dim())))
    return tensor


def bits_of(tensor):
    """The bytes of the elements in order; NaNs are compared as bytes too."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return pickle.dumps(tensor.contiguous().clone().untyped_storage().tolist())


def check_same(torch, got, sent):
    assert type(got) is type(sent)
    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
    assert got.requires_grad == sent.requires_grad
    assert (got.is_conj(), got.is_neg()) == (sent.is_conj(), sent.is_neg())
    assert bits_of(got) == bits_of(sent)
    steps = 1 + sum((n - 1) * s for n, s in zip(sent.shape, sent.stride(), strict=True))
    if sent.numel() and steps <= 2 * sent.numel():
        assert got.stride() == sent.stride()
    if sent.dtype not in {getattr(torch, name) for name in UNPICKLABLE}:
        rebuilt = pickle.loads(pickle.dumps(sent))
        assert bits_of(got) == bits_of(rebuilt)
        assert got.requires_grad == rebuilt.requires_grad


@pytest.fixture(scope="module")
def one_pool(tmp_path_factory):
    with oc.Pool.create(size="64MiB", backing="memfd") as pool:
        yield pool


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(recipes(), min_size=1, max_size=3),
    st.sampled_from([None, "on_write", True]),
    st.sampled_from(["alone", "list", "dict", "deep"]),
)
@pytest.mark.filterwarnings("ignore")  # torch: what is experimental
def test_what_arrives_is_what_pickle_rebuilds(torch, one_pool, parts, copy, nesting):
    tensors = [build(torch, recipe) for recipe in parts]
    if nesting == "alone":
        sent = tensors[0]
    elif nesting == "list":
        sent = tensors
    elif nesting == "dict":
        sent = dict(enumerate(tensors))
    else:
        sent = {"a": (1, [tensors])}
    before = one_pool.stats().used
    ref = one_pool.put(sent)
    for _ in range(2):
        got = ref.get(copy)
        if nesting == "alone":
            got = [got]
        elif nesting == "dict":
            got = list(got.values())
        elif nesting == "deep":
            [got] = got["a"][1]
        for one, other in zip(got, tensors, strict=nesting != "alone"):
            check_same(torch, one, other)
        del got, one
    ref.release()
    assert one_pool.stats().used == before
