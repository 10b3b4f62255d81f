"""The tree of modules: registration, names, state, copies, modes, and what invalidates a trace."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter([2.0])
        self.register_buffer("seen", st.zeros(()))
        self.register_buffer("scratch", st.zeros(()), persistent=False)
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
        self.factor = 1.0

    def forward(self, x: st.Array) -> Any:
        return self.head(nn.ReLU()(self.norm(self.conv(x))) * self.scale) * self.factor


X = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)


# ---- names and registration ----------------------------------------------------------------


def test_keys_are_own_parameters_then_buffers_then_children() -> None:
    assert list(Net().state_dict()) == [
        "scale", "seen", "conv.weight", "norm.weight", "norm.bias", "norm.running_mean",
        "norm.running_var", "norm.num_batches_tracked", "head.2.weight", "head.2.bias",
    ]  # fmt: skip


def test_walks() -> None:
    net = Net()
    assert [n for n, _ in net.named_children()] == ["conv", "norm", "head"]
    assert [n for n, _ in net.named_modules()][:3] == ["", "conv", "norm"]
    assert net.get_submodule("head.2") is net.head[2]
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert "scratch" in dict(net.named_buffers())
    assert len(list(net.parameters())) == len(list(net.named_parameters())) == 6
    seen: list[str] = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Conv2d", "BatchNorm2d", "Flatten", "Dropout", "Linear", "Sequential", "Net"]
    with pytest.raises(AttributeError, match="not a module"):
        net.get_submodule("scale")


def test_a_shared_parameter_counts_once_and_saves_under_both_names() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 1
    assert list(net.state_dict()) == ["0.weight", "1.weight"]
    copy = deepcopy(net)
    assert copy[0].weight is copy[1].weight is not net[0].weight


def test_attributes_change_kind_or_say_why_not() -> None:
    net = Net()
    with pytest.raises(st.DTypeError, match=r"'scale' is a parameter .*scale\.assign"):
        net.scale = st.ones(1)
    with pytest.raises(st.DTypeError, match="'conv' is a module"):
        net.conv = 3
    net.conv = None
    assert "conv.weight" not in net.state_dict()
    del net.norm
    with pytest.raises(AttributeError, match="Net has no attribute 'norm'"):
        _ = net.norm
    net.seen = st.ones(())
    assert net.state_dict()["seen"].item() == 1
    with pytest.raises(st.ShapeError, match="may not be empty or have a dot"):
        net.add_module("a.b", nn.ReLU())


def test_a_subclass_need_not_call_super_init() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(st.ones(2))

    assert list(Bare().state_dict()) == ["w"]


def test_forward_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(X)


def test_repr_is_nested() -> None:
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )


# ---- parameters ----------------------------------------------------------------------------


def test_a_parameter_owns_its_memory() -> None:
    data = np.ones(2, np.float32)
    p, q = nn.Parameter(data), nn.Parameter(st.asarray(data))
    data[0] = 5
    assert p.numpy().tolist() == q.numpy().tolist() == [1, 1]
    other = nn.Parameter(q)
    value, grads = st.gradients(lambda: st.sum(q * 2 + other * 3), [q, other])
    assert value.item() == 10
    assert [g.numpy().tolist() for g in grads] == [[2, 2], [3, 3]]


def test_only_floating_arrays_are_trained() -> None:
    with pytest.raises(st.DTypeError, match=r"i64\[2\]"):
        nn.Parameter(np.arange(2))
    assert not nn.Parameter(np.arange(2), requires_grad=False).requires_grad


def test_freezing() -> None:
    net = Net()
    net.conv.requires_grad_(False)
    frozen = [n for n, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["conv.weight"]


# ---- state ---------------------------------------------------------------------------------


def test_state_round_trip_by_arrays_and_by_numpy() -> None:
    source = Net()
    source(X)  # moves the running statistics
    for state in (
        source.state_dict(),
        {k: v.numpy() for k, v in source.state_dict().items()},
    ):
        target = Net()
        assert target.load_state_dict(state) == ([], [])
        for k, v in target.state_dict().items():
            np.testing.assert_array_equal(v.numpy(), source.state_dict()[k].numpy(), err_msg=k)
        np.testing.assert_array_equal(target.eval()(X).numpy(), source.eval()(X).numpy())
        source.train()


def test_state_is_of_its_moment_and_loading_shares_nothing() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    before = a.state_dict()
    old = before["weight"].numpy().copy()
    b.load_state_dict(before)
    a.weight.assign(a.weight * 0)
    np.testing.assert_array_equal(before["weight"].numpy(), old)
    np.testing.assert_array_equal(b.weight.numpy(), old)
    _, grads = st.gradients(lambda: st.sum(b.weight * 2 + a.weight), [b.weight, a.weight])
    assert [g.numpy()[0, 0] for g in grads] == [2, 1]


def test_a_failed_load_lists_everything_and_changes_nothing() -> None:
    net = Net()
    state: dict[str, Any] = {k: v.numpy() for k, v in net.state_dict().items()}
    before = deepcopy(state)
    del state["scale"], state["head.2.bias"]
    state["conv.weight"] = np.zeros((4, 1, 5, 5), np.float32)
    state["norm.bias"] = np.zeros(4, np.float16)
    state["norm.weight"] = np.zeros(4)
    state["seen"] = np.float32(7)
    state["extra"] = np.zeros(1)
    with pytest.raises(st.ShapeError) as caught:
        net.load_state_dict(state)
    message = str(caught.value)
    for line in (
        "6 of 10 entries of Net do not fit; nothing was loaded",
        "missing scale: f32[1]",
        "missing head.2.bias: f32[3]",
        "unexpected extra",
        "mismatched conv.weight: the module has f32[4,1,3,3], got f32[4,1,5,5]",
        "mismatched norm.bias: the module has f32[4], got float16[4]",
        "mismatched norm.weight: the module has f32[4], got f64[4]",
    ):
        assert line in message
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    del state["conv.weight"], state["norm.weight"], state["norm.bias"]
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert missing == ["scale", "conv.weight", "norm.weight", "norm.bias", "head.2.bias"]
    assert unexpected == ["extra"]
    assert net.seen.item() == 7


def test_a_checkpoint_older_than_num_batches_tracked_fits() -> None:
    state = {k: v for k, v in nn.BatchNorm2d(2).state_dict().items() if "num" not in k}
    assert nn.BatchNorm2d(2).load_state_dict(state) == ([], [])


def test_a_deep_copy_is_independent() -> None:
    net = Net()
    net(X)
    copy = deepcopy(net)
    y = net.eval()(X).numpy()
    np.testing.assert_array_equal(copy.eval()(X).numpy(), y)
    for p in [*copy.parameters(), *copy.buffers()]:
        p.assign(p * 0)
    np.testing.assert_array_equal(net(X).numpy(), y)
    assert np.abs(y).max() > 0
    assert {id(p) for p in net.parameters()}.isdisjoint(id(p) for p in copy.parameters())
    copy.head[2].weight.requires_grad = False
    assert net.head[2].weight.requires_grad


def test_to_changes_floating_state_only() -> None:
    net = Net().to("float64")
    kinds = {k: v.dtype.name for k, v in net.state_dict().items()}
    assert kinds.pop("norm.num_batches_tracked") == "int64"
    assert set(kinds.values()) == {"float64"}
    assert net(X.astype(np.float64)).dtype is st.float64
    with pytest.raises(st.DTypeError, match="floating dtype, got int32"):
        net.to("int32")


# ---- traces --------------------------------------------------------------------------------


def count_traces(net: nn.Module) -> tuple[Any, list[int]]:
    traces: list[int] = []

    def run(x: st.Array) -> Any:
        traces.append(1)
        return net(x)

    return st.jit(run), traces


def test_modes_invalidate_a_jitted_net() -> None:
    net = Net()
    run, traces = count_traces(net)
    run(X)
    assert len(traces) == 1
    net.train()  # changes nothing
    run(X)
    assert len(traces) == 1
    net.eval()
    np.testing.assert_allclose(run(X).numpy(), net(X).numpy(), rtol=1e-5)
    assert len(traces) == 2
    run(X)
    net.eval()
    run(X)
    assert len(traces) == 2
    net.head[1].train()  # a module far below
    run(X)
    assert len(traces) == 3


def test_any_changed_attribute_invalidates_a_jitted_net() -> None:
    net = Net().eval()
    run, traces = count_traces(net)
    y = run(X).numpy()
    net.factor = 1.0
    run(X)
    assert len(traces) == 1
    net.factor = 2.0
    np.testing.assert_allclose(run(X).numpy(), 2 * y, rtol=1e-6)
    net.head.append(nn.ReLU())
    np.testing.assert_allclose(run(X).numpy(), 2 * np.maximum(y, 0), rtol=1e-6)
    net.scale = nn.Parameter([0.0])
    assert len(set(run(X).numpy()[0])) <= 3
    assert len(traces) == 4


def test_new_values_of_parameters_do_not_trace_again() -> None:
    net = Net().eval()
    run, traces = count_traces(net)
    run(X)
    for p in net.parameters():
        p.assign(p * 0)
    Net()  # nor does building another net
    assert np.abs(run(X).numpy()).max() == 0
    assert len(traces) == 1


# ---- containers ----------------------------------------------------------------------------


def test_sequential_is_a_list_of_modules() -> None:
    a, b, c = nn.ReLU(), nn.Tanh(), nn.SiLU()
    net = nn.Sequential(a, b, c)
    assert len(net) == 3
    assert net[-1] is c
    assert list(net) == [a, b, c]
    assert isinstance(net[1:], nn.Sequential)
    assert [n for n, _ in net[1:].named_children()] == ["1", "2"]
    assert list(net[1:].append(a)) == [b, c, a]
    net[0] = c
    assert list(net) == [c, b, c]
    del net[1]
    net.insert(1, a)
    assert [n for n, _ in net.named_children()] == ["0", "1", "2"]
    assert list(net) == [c, a, c]
    with pytest.raises(IndexError, match="index 3 is out of range for 3 modules"):
        net[3]
    with pytest.raises(TypeError, match="wants modules, got function"):
        nn.Sequential(lambda x: x)  # type: ignore[arg-type]


def test_sequential_of_names() -> None:
    net = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), second=nn.ReLU()))
    assert list(net.state_dict()) == ["first.weight", "first.bias"]
    assert net.second is net[1]


def test_lists_and_dictionaries() -> None:
    chain = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)]).extend([nn.ReLU()])
    assert [n for n, _ in chain[1:].named_children()] == ["0", "1"]
    assert list(chain.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    table = nn.ModuleDict({"b": nn.ReLU(), "a": nn.Linear(2, 2)})
    assert list(table) == ["b", "a"]
    assert "a" in table
    assert len(table) == 2
    table["c"] = nn.Tanh()
    del table["b"]
    assert [k for k, _ in table.items()] == list(table.keys()) == ["a", "c"]
    assert len(list(table.values())) == 2
