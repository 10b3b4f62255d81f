"""Damaged models: each is read, and run where that can be; either way with striate's errors only.

    python -m tests.onnx.fuzz 20000 [seed] [--out FILE]

The models are small, but hold what readers stumble over: weights in every form, shapes computed
from shapes, graphs in graphs, functions, attributes of every kind, operators that read values.
Reading takes memory in proportion to the file; how much a run takes, the model says, up to what the
process may have. FILE gets the results as a table.
"""

from __future__ import annotations

import argparse
import faulthandler
import platform
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import striate as st
from tests.mutate import EDGES, mutations

SECONDS = 120.0  # the most that one damaged model may take
TIMES_SIZE, AND_BYTES = 128, 1 << 20  # memory that reading one may take
ADDRESSES = 3 << 30  # bytes, for the process; a model that asks for more gets a MemoryError
HEAD = '<ir_version: 8, opset_import: ["": OPSET, "local": 1], producer_name: "fuzz">'

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

DETECTION = """
net (float[1, 2, 8, 8] x, float[1, 4, 4] boxes, float[1, 2, 4] scores)
 => (int64[k, 3] kept, float[r, c, p, q] rois, float[n, 1, h, w] y, uint8[n, 1, i, j] q,
     int32[n, 1, i, j] sums)
<int64[1] most = {2}, float[1] overlap = {0.5}, float[1] least = {0.1}, float[2, 4] regions =
 {0, 0, 4, 4, 1, 2, 7, 7}, int64[2] which = {0, 0}, float[18, 2, 3, 3] wo = {WEIGHTS},
 float[1, 2, 3, 3] wd = {MORE}, float[1, 2, 3] theta = {1, 0.1, 0, -0.1, 1, 0},
 int64[4] size = {1, 2, 8, 8}, float scale = {0.05}, uint8 zero = {128},
 int8[1, 2, 3, 3] wq = {1, -2, 3, -4, 5, -6, 7, -8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1},
 float sw = {0.1}, int8 zw = {1}>
{
  kept = NonMaxSuppression <center_point_box = 0> (boxes, scores, most, overlap, least)
  rois = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2, spatial_scale = 0.5>
    (x, regions, which)
  offsets = Conv <pads = [1, 1, 1, 1]> (x, wo)
  d = DeformConv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, wd, offsets)
  grid = AffineGrid <align_corners = 1> (theta, size)
  g = GridSample <mode = "linear", padding_mode = "border"> (d, grid)
  y = Resize <mode = "cubic", coordinate_transformation_mode = "half_pixel"> (g, , twice)
  twice = Constant <value = float[4] {1, 1, 2, 2}> ()
  xq = QuantizeLinear (x, scale, zero)
  q = QLinearConv (xq, scale, zero, wq, sw, zw, scale, zero)
  sums = ConvInteger (xq, wq, zero, zw)
}
"""
SEGMENTATION = """
net (float[1, 4, 8, 8] x, int64[2, 2] at) => (float[n, c, h, w] y, float[a, b] z, int64[m, l] nz)
<float[4] s = {1, 2, 3, 4}, float[4] b = {0, 1, 0, 1}, float[4, 2, 2, 2] w = {MORE},
 int64[4] whole = {1, 4, 8, 8}, int64 two = {2}, float[2] off_on = {0, 1}, int64 depth = {4},
 bool[4] keep = {1, 0, 1, 1}, int64[2] image = {4, 4}, int64[2] block = {2, 2}>
{
  g = GroupNormalization <num_groups = 2> (x, s, b)
  l = LRN <size = 3> (g)
  p, where = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (l)
  u = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (p, where, whole)
  lp = LpPool <kernel_shape = [2, 2], strides = [2, 2], p = 2> (u)
  up = ConvTranspose <strides = [2, 2], group = 2> (lp, w)
  d = DepthToSpace <blocksize = 2, mode = "CRD"> (up)
  y = SpaceToDepth <blocksize = 2> (d)
  e = Einsum <equation = "nchw,nkhw->ck"> (x, l)
  top, best = TopK <axis = 1> (e, k)
  k = Constant <value_ints = [2]> ()
  o = OneHot <axis = -1> (best, depth, off_on)
  r = ReduceMax <keepdims = 0> (o, axis)
  axis = Constant <value_ints = [1]> ()
  put = ScatterND (r, at, edge)
  edge = Constant <value = float[2] {7, 8}> ()
  some = Compress <axis = 0> (put, keep)
  h = Hardmax <axis = 1> (some)
  tri = Trilu <upper = 0> (h)
  run = CumSum (tri, two0)
  two0 = Constant <value_int = 0> ()
  nz = NonZero (keep)
  columns = Constant <value_ints = [1, 16, 4]> ()
  fold = Reshape (lp, columns)
  im = Col2Im <strides = [2, 2]> (fold, image, block)
  line = ReduceSum <keepdims = 0> (im)
  z = Add (run, line)
}
"""
SOUND = """
net (float[1, 2, t] x) => (float[l, d, n, h] y, float[a, b] z)
<float[4, 2, 3] w = {MORE}, float[1, 16, 4] wl = {WEIGHTS}, float[1, 16, 4] rl = {WEIGHTS},
 float[1, 4, 4] wr = {SOME}, float[1, 4, 4] rr = {SOME}, float[1, 4] start = {0, 0, 0, 0}>
{
  c = Conv <pads = [2, 0], dilations = [1], group = 1> (x, w)
  p = AveragePool <kernel_shape = [2], strides = [2], ceil_mode = 1, count_include_pad = 1> (c)
  seq = Transpose <perm = [2, 0, 1]> (p)
  a, ah, ac = LSTM <hidden_size = 4> (seq, wl, rl)
  y = Identity (a)
  flat = Squeeze (a, one)
  one = Constant <value_ints = [1]> ()
  bh, bl = RNN <hidden_size = 4> (flat, wr, rr)
  rows = Squeeze (bl, zero)
  zero = Constant <value_ints = [0]> ()
  last, all = Scan <num_scan_inputs = 1,
    body = step (float[m, n] state, float[m, n] row) => (float[m, n] next, float[m, n] out)
    { next = Add (state, row) out = Mul (next, row) }> (start, flat)
  sum = ReduceSumSquare <keepdims = 0> (all, axes)
  axes = Constant <value_ints = [0]> ()
  both = Add (sum, last)
  ln = LayerNormalization <axis = -1> (both, gain)
  gain = Constant <value = float[4] {1, 2, 3, 4}> ()
  z = Add (ln, rows)
}
"""


def models() -> dict[str, tuple[bytes, tuple[np.ndarray[Any, Any], ...]]]:
    """(bytes, inputs) of the undamaged models, by name."""
    from onnx import parser

    def numbers(n: int) -> str:
        return ", ".join(str(round(0.1 * (k % 40) - 2, 1)) for k in range(n))

    images = np.linspace(-1, 1, 2 * 2 * 8 * 8, dtype=np.float32).reshape(2, 2, 8, 8)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    def line(*shape: int) -> Any:
        return np.linspace(0, 1, prod(shape), dtype=np.float32).reshape(shape)

    def model(opset: int, text: str, **sizes: int) -> bytes:
        for name, n in sizes.items():
            text = text.replace(name, numbers(n))
        head = HEAD.replace("OPSET", str(opset))
        return bytes(parser.parse_model(head + text).SerializeToString())

    corners = np.float32([[0, 0, 4, 4], [0, 0, 4, 5], [4, 4, 8, 8], [1, 1, 2, 2]])
    return {
        "convolutions": (model(17, CONVOLUTIONAL, WEIGHTS=54), (images,)),
        "shapes, functions": (model(17, SHAPES), (x, np.array([3, 2]))),
        "branches, loops": (
            model(17, CONTROL, WEIGHTS=96, MORE=48),
            (line(2, 1, 4, 4), np.array([2]), np.array(True)),
        ),
        "detection, integers": (
            model(21, DETECTION, WEIGHTS=324, MORE=18),
            (line(1, 2, 8, 8), corners[None], line(1, 2, 4)),
        ),
        "segmentation, indices": (
            model(21, SEGMENTATION, MORE=32),
            (line(1, 4, 8, 8), np.array([[0, 1], [3, 2]])),
        ),
        "sound, recurrence": (model(21, SOUND, WEIGHTS=64, MORE=24, SOME=16), (line(1, 2, 12),)),
    }


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
        outputs = st.onnx.load(data)(*inputs)
        for y in outputs if isinstance(outputs, tuple) else (outputs,):
            y.numpy()
    except (st.StriateError, MemoryError, IndexError) as error:
        return type(error).__name__
    return "ran"


def memory_of_reading(data: bytes) -> float:
    """The most memory that reading takes, of what it may."""
    tracemalloc.start()
    try:
        st.onnx.load(data)
    except st.StriateError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / (TIMES_SIZE * len(data) + AND_BYTES)


@dataclass
class Result:
    """Of the damaged versions of one model: how they ended, the longest, the most memory."""

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    memory: float = 0.0


def fuzz(n: int, seed: int) -> list[Result]:
    """Damage the models at least `n` times in all; what became of them.

    Raises:
        AssertionError: one took too long, or too much memory to be read.
    """
    given = models()
    found = []
    with st.config(backend="numpy"):
        for k, (name, (data, inputs)) in enumerate(given.items()):
            result = Result(name)
            assert attempt(data, inputs) == "ran"
            rng = np.random.default_rng(seed + k)
            proto = parsed(data)
            half = -(-n // (2 * len(given)))
            bad = chain(
                mutations(data, half, seed + k), (tampered(proto, rng) for _ in range(half))
            )
            for number, broken in enumerate(bad):
                start = time.perf_counter()
                result.ends[attempt(broken, inputs)] += 1
                result.seconds = max(result.seconds, time.perf_counter() - start)
                result.memory = max(result.memory, memory_of_reading(broken))
                assert result.seconds < SECONDS and result.memory < 1, (name, number, result)
            found.append(result)
    return found


def table(results: list[Result], seed: int) -> str:
    """The results as Markdown."""
    count = sum(sum(r.ends.values()) for r in results)
    ends = sorted({end for r in results for end in r.ends} - {"ran"})
    lines = [
        "# Damaged ONNX models",
        "",
        f"`make fuzz-onnx`: {count} files; seed {seed}.",
        f"striate {st.__version__}, Python {platform.python_version()}, NumPy {np.__version__}.",
        "",
        "Every model ran, by the interpreter, or ended with one of these errors. Reading one may",
        f"take {TIMES_SIZE} times its size + {AND_BYTES >> 20} MiB, reading and running "
        f"{SECONDS:g} s. The process has {ADDRESSES >> 30} GiB.",
        "",
        f"| model | ran | {' | '.join(ends)} | most memory, of what it may take | longest |",
        "|---" * (len(ends) + 4) + "|",
    ]
    for r in results:
        cells = [r.name, *(str(r.ends[end]) for end in ("ran", *ends))]
        lines.append(f"| {' | '.join(cells)} | {r.memory:.0%} | {r.seconds:.1f} s |")
    return "\n".join(lines) + "\n"


def limit_memory() -> None:
    """Give this process no more than a share of the machine."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))


def main() -> None:
    """Fuzz, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=20000)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    faulthandler.enable()
    limit_memory()
    text = table(fuzz(args.count, args.seed), args.seed)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
