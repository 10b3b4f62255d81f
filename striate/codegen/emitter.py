"""LLVM IR as expressions: `Emitter` builds the one function of a kernel.

Values are LLVM values, scalars or vectors; an operation on vectors is the operation on each lane.
Loops carry their values: `acc = e.loop(0, n, 1, acc, lambda i, acc: ...)`. Indices are i64; a
Python int is taken for one wherever an index is wanted. Addresses come from `at` only (GEP, never
integers), and loads and stores state their alignment. There is no fast-math: the order of
operations is the order of the calls, and only `fma` fuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from striate.dtype import DType, bfloat16, bool_, float64
from striate.target import Target

Value = Any  # llvmlite has no types: an ir.Value
Index = Any  # an i64 Value or a Python int

VOID = ir.VoidType()
POINTER = ir.PointerType()
I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64, BF16 = ir.FloatType(), ir.DoubleType(), ir.IntType(16)


def storage(dtype: DType) -> Any:
    """The LLVM type of an element in memory: bool is a byte of 0 or 1, bfloat16 is its bits."""
    if dtype.is_floating:
        return F64 if dtype is float64 else BF16 if dtype is bfloat16 else F32
    return I8 if dtype is bool_ else ir.IntType(dtype.bits)


def element(dtype: DType) -> Any:
    """The LLVM type in which an element is computed: bool is i1, bfloat16 is float."""
    if dtype is bool_:
        return I1
    return F32 if dtype is bfloat16 else storage(dtype)


def vector(element: Any, lanes: int) -> Any:
    """A vector type; one lane is the element itself."""
    return element if lanes == 1 else ir.VectorType(element, lanes)


def lanes_of(type: Any) -> int:
    """The number of lanes of a type."""
    return type.count if isinstance(type, ir.VectorType) else 1


def scalar_of(type: Any) -> Any:
    """The element type of a vector type, or the type itself."""
    return type.element if isinstance(type, ir.VectorType) else type


def suffix(type: Any) -> str:
    """How LLVM's intrinsics are named for a type: `f32`, `v16f32`."""
    one = scalar_of(type)
    if isinstance(one, ir.IntType):
        text = f"i{one.width}"
    else:
        text = "ptr" if isinstance(one, ir.PointerType) else "f64" if one == F64 else "f32"
    n = lanes_of(type)
    return text if n == 1 else f"v{n}{text}"


class Emitter:
    """Builds `void name(ptr words, i64 thread, i64 threads)` in a module of its own.

    Attributes:
        target: the processor that the code is for.
        b: the llvmlite builder, for what has no method here.
        thread, threads: the arguments, i64.
    """

    def __init__(self, target: Target, name: str) -> None:
        self.target = target
        self.module = ir.Module(name=name)
        self.module.triple = target.triple
        type = ir.FunctionType(VOID, [POINTER, I64, I64])
        self.function = ir.Function(self.module, type, name)
        self.function.attributes.add("nounwind")
        self.words, self.thread, self.threads = self.function.args
        self.words.add_attribute("noalias")
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    # ---- words and threads -------------------------------------------------------------

    def number(self, i: int) -> Value:
        """Word i as an i64."""
        return self.b.load(self.at(self.words, i, I64), typ=I64, align=8)

    def pointer(self, i: int) -> Value:
        """Word i as an address."""
        return self.b.load(self.at(self.words, i, I64), typ=POINTER, align=8)

    def share(self, n: Index) -> tuple[Value, Value]:
        """(first, last + 1) of this thread's part of n equal pieces of work."""
        n = self.index(n)
        b = self.b
        first = b.udiv(b.mul(n, self.thread), self.threads)
        return first, b.udiv(b.mul(n, b.add(self.thread, self.index(1))), self.threads)

    # ---- constants ---------------------------------------------------------------------

    def index(self, i: Index) -> Value:
        """An i64."""
        return ir.Constant(I64, i) if isinstance(i, int) else i

    def const(self, type: Any, value: float | int) -> Value:
        """The number in every lane of this type; floats are exact to the last bit."""
        one = scalar_of(type)
        if isinstance(one, ir.IntType):
            number: float | int = int(value) & ((1 << one.width) - 1)
            if one.width > 1 and number >= 1 << (one.width - 1):
                number -= 1 << one.width
        else:
            number = float(value)
        scalar = ir.Constant(one, number)
        if lanes_of(type) == 1:
            return scalar
        splat = ir.FormattedConstant(one, f"splat ({one} {scalar.get_reference()})")
        splat.type = type  # which its constructor takes for a list
        return splat

    def undefined(self, element: Any, lanes: int) -> Value:
        """A vector of any content, to be filled."""
        return ir.Constant(ir.VectorType(element, lanes), ir.Undefined)

    # ---- index arithmetic --------------------------------------------------------------

    def add(self, *parts: Index) -> Value:
        """The sum of indices."""
        known = sum(p for p in parts if isinstance(p, int))
        total: Any = None
        for p in parts:
            if not isinstance(p, int):
                total = p if total is None else self.b.add(total, p)
        if total is None:
            return self.index(known)
        return self.b.add(total, self.index(known)) if known else total

    def mul(self, x: Index, y: Index) -> Value:
        """The product of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return self.index(x * y)
        if isinstance(x, int):
            x, y = y, x
        if isinstance(y, int) and y in (0, 1):
            return x if y else self.index(0)
        return self.b.mul(x, self.index(y))

    def smaller(self, x: Index, y: Index) -> Value:
        """The smaller of two indices."""
        x, y = self.index(x), self.index(y)
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def larger(self, x: Index, y: Index) -> Value:
        """The larger of two indices."""
        x, y = self.index(x), self.index(y)
        return self.b.select(self.b.icmp_signed(">", x, y), x, y)

    # ---- memory ------------------------------------------------------------------------

    def at(self, base: Value, i: Index, element: Any) -> Value:
        """The address of element i after `base`."""
        return self.b.gep(base, [self.index(i)], source_etype=element)

    def load(self, p: Value, type: Any, align: int | None = None) -> Value:
        """A value of this type at an address; `align` defaults to the element's size."""
        return self.b.load(p, typ=type, align=align or size_of(scalar_of(type)))

    def store(self, value: Value, p: Value, align: int | None = None) -> Value:
        """Write a value to an address."""
        return self.b.store(value, p, align=align or size_of(scalar_of(value.type)))

    def stream(self, value: Value, p: Value) -> None:
        """Store past the caches, at a multiple of the size; `publish` makes it seen in order."""
        align = lanes_of(value.type) * size_of(scalar_of(value.type))
        self.b.store(value, p, align=align).set_metadata(
            "nontemporal", self.module.add_metadata([ir.Constant(I32, 1)])
        )

    def publish(self) -> None:
        """Whoever meets this thread later sees what it has streamed."""
        self.b.fence("seq_cst")

    def splat(self, x: Value, lanes: int) -> Value:
        """A vector of `lanes` copies of a scalar."""
        if lanes == 1:
            return x
        undefined = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
        one = self.b.insert_element(undefined, x, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return self.b.shuffle_vector(one, undefined, zeros)

    def ramp(self, lanes: int) -> Value:
        """The i64 numbers of the lanes: 0, 1, 2, ..."""
        return ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))

    def first_lanes(self, n: Index, lanes: int) -> Value:
        """A mask that is true in the lanes below n."""
        return self.b.icmp_signed("<", self.ramp(lanes), self.splat(self.index(n), lanes))

    def load_masked(self, p: Value, mask: Value, type: Any, align: int | None = None) -> Value:
        """A load of the lanes in which the mask is true; the others are zero and not touched."""
        align_ = ir.Constant(I32, align or size_of(scalar_of(type)))
        other = self.const(type, 0)
        return self.intrinsic(f"llvm.masked.load.{suffix(type)}.p0", type, p, align_, mask, other)

    def store_masked(self, value: Value, p: Value, mask: Value, align: int | None = None) -> None:
        """A store of the lanes in which the mask is true."""
        align_ = ir.Constant(I32, align or size_of(scalar_of(value.type)))
        name = f"llvm.masked.store.{suffix(value.type)}.p0"
        self.intrinsic(name, VOID, value, p, align_, mask)

    def gather(self, p: Value, step: Index, mask: Value, type: Any) -> Value:
        """Lane i is the element at p + i * step, in elements, where the mask is true, else zero."""
        align = ir.Constant(I32, size_of(scalar_of(type)))
        name = f"llvm.masked.gather.{suffix(type)}.v{type.count}p0"
        pointers = self._spread(p, step, type)
        return self.intrinsic(name, type, pointers, align, mask, self.const(type, 0))

    def scatter(self, value: Value, p: Value, step: Index, mask: Value) -> None:
        """Lane i becomes the element at p + i * step, in elements, where the mask is true."""
        type = value.type
        align = ir.Constant(I32, size_of(scalar_of(type)))
        name = f"llvm.masked.scatter.{suffix(type)}.v{type.count}p0"
        self.intrinsic(name, VOID, value, self._spread(p, step, type), align, mask)

    def _spread(self, p: Value, step: Index, type: Any) -> Value:
        """The addresses p + i * step, in elements, of the lanes i of a vector."""
        offsets = self.b.mul(self.ramp(type.count), self.splat(self.index(step), type.count))
        value = self.b.gep(p, [offsets], source_etype=scalar_of(type))
        value.type = ir.VectorType(POINTER, type.count)
        return value

    def widen(self, stored: Value, dtype: DType) -> Value:
        """Stored elements, scalar or vector, in the type in which they are computed."""
        b, n = self.b, lanes_of(stored.type)
        if dtype is bfloat16:
            bits = b.shl(b.zext(stored, vector(I32, n)), self.const(vector(I32, n), 16))
            return b.bitcast(bits, vector(F32, n))
        return b.trunc(stored, vector(I1, n)) if dtype is bool_ else stored

    def narrow(self, x: Value, dtype: DType) -> Value:
        """Computed elements as they are stored; bfloat16 rounds to nearest even, NaN stays NaN."""
        b, n = self.b, lanes_of(x.type)
        if dtype is bool_:
            return b.zext(x, vector(I8, n))
        if dtype is not bfloat16:
            return x
        wide = vector(I32, n)
        bits = b.bitcast(x, wide)
        high = b.lshr(bits, self.const(wide, 16))
        odd = b.and_(high, self.const(wide, 1))
        up = b.lshr(b.add(bits, b.add(odd, self.const(wide, 0x7FFF))), self.const(wide, 16))
        quiet = b.or_(high, self.const(wide, 0x40))
        return b.trunc(b.select(b.fcmp_unordered("uno", x, x), quiet, up), vector(BF16, n))

    def prefetch(self, p: Value, level: int = 1, write: bool = False) -> None:
        """Bring the cache line at an address into L1 or L2; any address will do."""
        flags = [ir.Constant(I32, v) for v in (int(write), 4 - level, 1)]
        self.intrinsic("llvm.prefetch.p0", VOID, p, *flags)

    # ---- arithmetic --------------------------------------------------------------------

    def intrinsic(self, name: str, result: Any, *args: Value) -> Value:
        """A call of an LLVM intrinsic, by its full name."""
        known = self.module.globals.get(name)
        if known is None:
            known = ir.Function(self.module, ir.FunctionType(result, [a.type for a in args]), name)
        return self.b.call(known, args)

    def unary(self, name: str, x: Value) -> Value:
        """`llvm.NAME` of one value, lane by lane."""
        return self.intrinsic(f"llvm.{name}.{suffix(x.type)}", x.type, x)

    def binary(self, name: str, x: Value, y: Value) -> Value:
        """`llvm.NAME` of two values, lane by lane."""
        return self.intrinsic(f"llvm.{name}.{suffix(x.type)}", x.type, x, y)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z, rounded once."""
        return self.intrinsic(f"llvm.fma.{suffix(x.type)}", x.type, x, y, z)

    def muladd(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z: fused where the processor can, integers wrap around."""
        if isinstance(scalar_of(x.type), ir.IntType):
            return self.b.add(self.b.mul(x, y), z)
        if self.target.name == "x86-64-v2":
            return self.b.fadd(self.b.fmul(x, y), z)
        return self.fma(x, y, z)

    def total(self, x: Value) -> Value:
        """The sum of the lanes of a vector, their number a power of two: halves are added."""
        while (n := lanes_of(x.type)) > 1:
            halves = [range(n // 2), range(n // 2, n)]
            low, high = (
                self.b.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, n // 2), [*lanes]))
                for lanes in halves
            )
            x = self.b.fadd(low, high) if scalar_of(x.type) in (F32, F64) else self.b.add(low, high)
        vector = isinstance(x.type, ir.VectorType)
        return self.b.extract_element(x, ir.Constant(I32, 0)) if vector else x

    # ---- control flow ------------------------------------------------------------------

    def loop(
        self,
        start: Index,
        stop: Index,
        step: Index,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
        hot: bool = False,
    ) -> list[Value]:
        """for i in range(start, stop, step): carried = body(i, carried). The step is positive.

        Registers go to a `hot` loop first: LLVM takes deeper loops for those that run more often.
        """
        b = self.b
        start, stop, step = self.index(start), self.index(stop), self.index(step)
        entry = b.block
        head, inside, after = (
            self.function.append_basic_block(n) for n in ("head", "body", "after")
        )
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        phis = [b.phi(c.type) for c in carried]
        branch = b.cbranch(b.icmp_signed("<", i, stop), inside, after)
        if hot:
            branch.set_weights([1 << 16, 1])
        b.position_at_end(inside)
        new = [*(body(i, list(phis)) or ())]
        assert len(new) == len(phis), "a loop's body must return what it carries"
        following = b.add(i, step)
        for phi, first, again in zip([i, *phis], [start, *carried], [following, *new], strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(again, b.block)
        b.branch(head)
        b.position_at_end(after)
        return phis

    def each(
        self, start: Index, stop: Index, body: Callable[[Value], object], step: Index = 1
    ) -> None:
        """for i in range(start, stop, step): body(i)."""

        def run(i: Value, _: list[Value]) -> None:
            body(i)

        self.loop(start, stop, step, (), run)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """A block that runs if the condition holds."""
        with self.b.if_then(condition):
            yield

    @contextmanager
    def either(self, condition: Value) -> Iterator[tuple[Any, Any]]:
        """Two context managers: what is emitted in the first runs if the condition holds, in the
        second if not.
        """
        with self.b.if_else(condition) as (then, otherwise):
            yield then, otherwise

    def choose(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """The values of one of two branches; only that one runs."""
        arms = []
        with self.b.if_else(condition) as (first, second):
            for arm, body in ((first, then), (second, otherwise)):
                with arm:
                    values = body()
                    arms.append((values, self.b.block))
        phis = []
        for x, y in zip(arms[0][0], arms[1][0], strict=True):
            phi = self.b.phi(x.type)
            phi.add_incoming(x, arms[0][1])
            phi.add_incoming(y, arms[1][1])
            phis.append(phi)
        return phis


def size_of(type: Any) -> int:
    """Bytes of a scalar in memory."""
    if isinstance(type, ir.IntType):
        return max(1, int(type.width) // 8)
    return 4 if type == F32 else 8
