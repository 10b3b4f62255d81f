"""Damaged models: each is read, and run where that can be; either way with striate's errors only.

    python -m tests.onnx.fuzz 20000 [seed]

The models are small, but hold what readers stumble over: weights in every form, shapes computed
from shapes, graphs in graphs, functions, attributes of every kind.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np

import striate as st
from tests.mutate import EDGES, mutations

SECONDS = 120.0  # the most that one damaged model may take
HEAD = '<ir_version: 8, opset_import: ["": 17, "local": 1], producer_name: "fuzz">'

CONVOLUTIONAL = """
net (float[n, 2, h, w] x) => (float[n, c] y)
<float[3, 2, 3, 3] w = {WEIGHTS}, float[3] b = {0.5, -1, 2}, float[3] s = {1, 2, 3},
 float[3] m = {0, 0.5, 1}, float[3] v = {1, 2, 3}, int64[1] one = {1}, int64[2] keep = {0, -1}>
{
  a = Conv <strides = [1, 1], pads = [1, 1, 1, 1]> (x, w, b)
  n1 = BatchNormalization <epsilon = 0.001> (a, s, b, m, v)
  r = Relu(n1)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
  g = AveragePool <kernel_shape = [2, 2], auto_pad = "SAME_UPPER"> (p)
  i = InstanceNormalization(g, s, b)
  sizes = Shape(i)
  batch = Gather <axis = 0> (sizes, zero)
  zero = Constant <value_ints = [0]> ()
  rest = Constant <value = int64[1] {-1}> ()
  both = Concat <axis = 0> (batch, rest)
  f = Reshape(i, both)
  y = Softmax <axis = -1> (f)
}
"""
SHAPES = """
net (float[n, m] x, int64[2] k) => (float[a, b] y, int64[1] size)
<float[2] scale = {1.5, -2.0}, int64[1] axis = {0}, int64[1] stop = {1}>
{
  t = Transpose <perm = [1, 0]> (x)
  e = Expand(scale, k)
  p = Pad(t, widths)
  widths = Constant <value_ints = [0, 1, 1, 0]> ()
  s = Slice(p, axis, stop, axis)
  sq = Squeeze(s, axis)
  u = Unsqueeze(sq, axis)
  l, rgt = Split <axis = 1> (u)
  c = Concat <axis = 1> (l, rgt)
  sum = ReduceSum <keepdims = 1> (c, axis)
  am = ArgMax <axis = 1> (sum)
  size = Size(am)
  ti = Tile(e, k)
  z = local.twice <rate = 0.25> (ti)
  y = Clip(z, low)
  low = Constant <value_float = -1.0> ()
}
<domain: "local", opset_import: ["": 17]>
twice <rate> (v) => (o)
{
  f = Constant <value_float: float = @rate> ()
  q = Mul(v, f)
  o = Add(q, v)
}
"""


CONTROL = """
net (float[n, 1, h, w] x, int64[1] k, bool flag) => (float[a, b] y, float[c, d, e] g)
<float[4] scales = {1, 1, 2, 0.5}, int64 trips = {3}, float[1, 12, 8] w1 = {WEIGHTS},
 float[1, 12, 4] w2 = {MORE}, int64[3] seq = {2, 1, 8}>
{
  r = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , scales)
  flat = Flatten <axis = 1> (r)
  top, at = TopK <axis = 1, largest = 1> (flat, k)
  z = If (flag) <
    then_branch = yes () => (float[p, q] o1) { o1 = Neg(top) },
    else_branch = no () => (float[p, q] o2) { o2 = Abs(top) }
  >
  go = Constant <value = bool {1}> ()
  total, rows = Loop (trips, go, z) <
    body = trip (int64 i, bool c, float[p, q] s) => (bool c1, float[p, q] s1, float[p, q] row)
    { c1 = Identity(c) f = Cast <to = 1> (i) s1 = Add(s, f) row = Mul(s, s) }
  >
  all = ReduceSum <keepdims = 0> (rows)
  y = Add(total, all)
  u = Tile(top, times)
  times = Constant <value_ints = [1, 4]> ()
  v = Reshape(u, seq)
  g4, last = GRU <hidden_size = 4> (v, w1, w2)
  g = Squeeze(last)
}
"""


def models() -> list[tuple[bytes, tuple[np.ndarray[Any, Any], ...]]]:
    """(bytes, inputs) of the undamaged models."""
    from onnx import parser

    def numbers(n: int) -> str:
        return ", ".join(str(round(0.1 * (k % 40) - 2, 1)) for k in range(n))

    images = np.linspace(-1, 1, 2 * 2 * 8 * 8, dtype=np.float32).reshape(2, 2, 8, 8)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = {
        CONVOLUTIONAL.replace("WEIGHTS", numbers(54)): (images,),
        SHAPES: (x, np.array([3, 2])),
        CONTROL.replace("WEIGHTS", numbers(96)).replace("MORE", numbers(48)): (
            np.linspace(0, 1, 2 * 16, dtype=np.float32).reshape(2, 1, 4, 4),
            np.array([2]),
            np.array(True),
        ),
    }
    return [
        (parser.parse_model(HEAD + text).SerializeToString(), inputs)
        for text, inputs in given.items()
    ]


def parsed(data: bytes) -> Any:
    from onnx import ModelProto

    return ModelProto.FromString(data)


def tampered(proto: Any, rng: np.random.Generator) -> bytes:
    """A model that is well-formed, but with one node, tensor or input that is not what it was."""
    proto = type(proto).FromString(proto.SerializeToString())
    graph = proto.graph
    nodes = [*graph.node, *(n for node in graph.node for a in node.attribute for n in a.g.node)]
    node = nodes[int(rng.integers(len(nodes)))]
    edge = EDGES[int(rng.integers(len(EDGES)))]
    number = int(rng.choice([-1, 0, 1, 2, 3, 7, -(1 << 63), (edge & (2**63 - 1))]))
    names = [name for n in nodes for name in (*n.input, *n.output)]
    match int(rng.integers(8)):
        case 0 if node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            attribute.i, attribute.f = number, float(number)
            for k in range(len(attribute.ints)):
                attribute.ints[k] = number
        case 1 if node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            attribute.type = int(rng.integers(1, 11))
        case 2 if node.attribute:
            del node.attribute[int(rng.integers(len(node.attribute)))]
        case 3 if node.input:
            node.input[int(rng.integers(len(node.input)))] = str(rng.choice(["", *names]))
        case 4:
            node.op_type = nodes[int(rng.integers(len(nodes)))].op_type
        case 5 if graph.initializer:
            tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
            wide = np.array([number], np.int64)
            if tensor.int64_data:
                tensor.int64_data[0] = number
            elif rng.random() < 0.5:
                tensor.raw_data = wide.tobytes() * (len(tensor.raw_data) // 8)
            else:
                tensor.dims.append(int(abs(number) % 5))
        case 6:
            node.input.append(str(rng.choice(names)))
        case _:
            proto.opset_import[0].version = int(rng.integers(1, 29))
    return bytes(proto.SerializeToString())


def attempt(data: bytes, inputs: tuple[Any, ...]) -> str:
    """What became of one model: `ran`, or the class of the error; others pass through."""
    try:
        net = st.onnx.load(data)
        outputs = net(*inputs)
        for y in outputs if isinstance(outputs, tuple) else (outputs,):
            y.numpy()
    except (st.StriateError, MemoryError, IndexError) as error:
        return type(error).__name__
    return "ran"


def fuzz(n: int, seed: int) -> Counter[str]:
    """Damage the models `n` times in all, and count what became of them."""
    found: Counter[str] = Counter()
    given = models()
    with st.config(backend="numpy"):
        for k, (data, inputs) in enumerate(given):
            assert attempt(data, inputs) == "ran"
            rng = np.random.default_rng(seed + k)
            proto = parsed(data)
            half = n // len(given) // 2
            bad = chain(
                mutations(data, half, seed + k), (tampered(proto, rng) for _ in range(half))
            )
            for broken in bad:
                start = time.perf_counter()
                found[attempt(broken, inputs)] += 1
                assert time.perf_counter() - start < SECONDS
    return found


if __name__ == "__main__":
    count, first = (int(v) for v in (*sys.argv[1:], "20000", "0")[:2])
    faulthandler.enable()
    faulthandler.dump_traceback_later(3 * SECONDS * 60, exit=True)
    print(dict(fuzz(count, first)))
