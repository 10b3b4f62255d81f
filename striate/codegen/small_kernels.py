"""Convolutions of images of a few pixels: their weights are read in place, once.

With so few pixels the weights are nearly all that is read, and to pack them would cost more than to
multiply by them. As matrices: X[q, r] holds the inputs that pixel q sees, r = (c, tap); W[k, r] are
the weights as they are in memory, G[q, k] features at pixels.

    RowDots      Y[q, k]  = sum over r  X[q, r] * W[k, r]      lanes are r, added at the end
    RowSums      Z[q, r]  = sum over k  G[q, k] * W[k, r]      the input gradient, before its taps
    RowProducts  dW[k, r] = sum over q  G[q, k] * X[q, r]

`PixelGather` makes X and G, `PixelScatter` adds what the taps of Z give to each pixel. Every sum
has an order of its own, whatever the number of threads and images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from striate.codegen.elements import load_element, store_element
from striate.codegen.emitter import I64, Emitter, Value, element, storage, vector
from striate.codegen.epilogue import Epilogue, Operands
from striate.codegen.words import Words
from striate.dtype import DType

FEATURES = 64  # of a piece of work of `PixelScatter`
_CHANNELS = "outer outer_x inner inner_x"
_OUTPUTS = "features pixels y_image y_plane"


class _Emission:
    """What the kernels share: words, types, a loop over vectors with a masked end."""

    def __init__(self, e: Emitter, dtype: DType, words: tuple[str, ...]) -> None:
        self.e, self.dtype, self.n = e, dtype, Words(e, words)
        self.scalar, self.stored = element(dtype), storage(dtype)
        self.lanes = e.target.lanes(64 if dtype.bits == 64 else 32)
        self.wide = vector(self.scalar, self.lanes)

    def rows(self, name: str) -> Value:
        """The address of a matrix of computed elements."""
        return self.n.pointer(name)

    def vectors(
        self, start: Value, stop: Value, body: Callable[[Value, Value | None], object]
    ) -> None:
        """body(i, None) for whole vectors of [start, stop), body(i, mask) for what is left."""
        e = self.e
        whole = e.b.sub(stop, e.b.urem(e.b.sub(stop, start), e.index(self.lanes)))
        e.each(start, whole, lambda i: body(i, None), self.lanes)
        with e.when(e.b.icmp_signed("<", whole, stop)):
            body(whole, e.first_lanes(e.b.sub(stop, whole), self.lanes))

    def weights(self, at: Value, mask: Value | None) -> Value:
        """A vector of W."""
        place = e_at(self, "w", at)
        return load_element(self.e, place, self.dtype, self.lanes, mask)

    def splat(self, base: Value, at: Value) -> Value:
        """A computed element in every lane."""
        e = self.e
        return e.splat(e.load(e.at(base, at, self.scalar), self.scalar), self.lanes)


def e_at(s: _Emission, name: str, at: Value) -> Value:
    """The address of a stored element of an operand."""
    return s.e.at(s.n.pointer(name), at, s.stored)


class _Outputs:
    """Stores single elements of y [N, K/b, *O, b], through the epilogue."""

    def __init__(self, s: _Emission, y_block: int, epilogue: Epilogue | None) -> None:
        self.s, self.block = s, y_block
        self.result = epilogue.result if epilogue else s.dtype
        self.operands: Operands | None = None
        if epilogue:
            pointers = [s.n.pointer(f"operand{i}") for i in range(len(epilogue.kinds))]
            self.operands = Operands(s.e, epilogue, pointers)

    def store(self, value: Value, image: Value, pixel: Value, feature: Value) -> None:
        """One sum."""
        e, n, b = self.s.e, self.s.n, self.block
        block = e.mul(e.b.udiv(feature, e.index(b)), n.number("y_plane"))
        at = e.add(e.mul(pixel, b), e.b.urem(feature, e.index(b)), block)
        at = e.add(at, e.mul(image, n.number("y_image")))
        if self.operands:
            fixed = self.operands.at_channel(feature, 1, None)
            value = self.operands.apply(value, fixed, at, None)
        store_element(e, value, e.at(n.pointer("y"), at, storage(self.result)), self.result)


def _operand_words(epilogue: Epilogue | None) -> tuple[str, ...]:
    return tuple(f"operand{i}" for i in range(len(epilogue.kinds if epilogue else ())))


@dataclass(frozen=True)
class PixelGather:
    """X[q, (c, t)] of x [N, C/b, *I, b]: zero where a tap sees padding.

    Words: `table` has for each output of an image and each tap the element of x, -1 for padding;
    channels are `outer` times `inner`, `outer_x` and `inner_x` elements apart.
    """

    dtype: DType

    @property
    def name(self) -> str:
        """`pixel_gather_f32`"""
        return f"pixel_gather_{self.dtype.short}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        return ("x", "out", "table", "images", "pixels", "taps", "x_image", *_CHANNELS.split())

    def emit(self, e: Emitter) -> None:
        """Share (image, pixel, tap) among threads."""
        s = _Emission(e, self.dtype, self.words)
        n = s.n
        pixels, taps, outer, inner = (n.number(w) for w in ("pixels", "taps", "outer", "inner"))
        row = e.mul(e.mul(outer, inner), taps)
        places = e.mul(pixels, taps)

        def item(i: Value) -> None:
            image, place = e.b.udiv(i, places), e.b.urem(i, places)
            where = e.load(e.at(n.pointer("table"), place, I64), I64)
            x = e.add(e.mul(image, n.number("x_image")), where)
            q = e.add(e.mul(image, pixels), e.b.udiv(place, taps))
            to = e.add(e.mul(q, row), e.b.urem(place, taps))
            seen = e.b.icmp_signed(">=", where, e.index(0))

            def channels(value: Callable[[Value], Value]) -> None:
                def block(o: Value) -> None:
                    first = e.mul(o, inner)

                    def channel(c: Value) -> None:
                        found = value(e.add(e.mul(o, n.number("outer_x")), e.mul(c, inner_x)))
                        at = e.add(to, e.mul(e.add(first, c), taps))
                        e.store(found, e.at(n.pointer("out"), at, s.scalar))

                    e.each(0, inner, channel)

                inner_x = n.number("inner_x")
                e.each(0, outer, block)

            def read(at: Value) -> Value:
                return load_element(e, e_at(s, "x", e.add(x, at)), self.dtype)

            with e.either(seen) as (inside, padding):
                with inside:
                    channels(read)
                with padding:
                    channels(lambda at: e.const(s.scalar, 0))

        e.each(*e.share(e.mul(n.number("images"), places)), item)


@dataclass(frozen=True)
class RowDots:
    """y from X and W, in tiles of features and pixels.

    A sum that is not finite is computed again without the taps that see padding, if there are any:
    words from `source` on say where these are, as those of `PixelGather` do.

    Attributes:
        dtype: of w and of `source`; X is computed elements.
        rows, columns: features and pixels of a tile.
        padded: whether a tap sees padding.
        y_block: channels of a block of y.
        epilogue: what is stored of a sum.
    """

    dtype: DType
    rows: int
    columns: int
    padded: bool
    y_block: int
    epilogue: Epilogue | None = None

    @property
    def name(self) -> str:
        """`row_dots_f32_6x4`"""
        return f"row_dots_{self.dtype.short}_{self.rows}x{self.columns}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        base = f"x w y images depth w_feature source table taps x_image {_CHANNELS} {_OUTPUTS}"
        return (*base.split(), *_operand_words(self.epilogue))

    def emit(self, e: Emitter) -> None:
        """Share tiles of features among threads."""
        _Dots(e, self).emit()


class _Dots(_Emission):
    """The emission of `RowDots`."""

    def __init__(self, e: Emitter, kernel: RowDots) -> None:
        super().__init__(e, kernel.dtype, kernel.words)
        self.k = kernel
        self.outputs = _Outputs(self, kernel.y_block, kernel.epilogue)
        self.depth, self.features = self.n.number("depth"), self.n.number("features")
        self.pixels = self.n.number("pixels")
        self.count = e.mul(self.n.number("images"), self.pixels)

    def emit(self) -> None:
        """Tile after tile; the last ones repeat a row, and do not store it."""
        e, k = self.e, self.k
        tiles = e.b.udiv(e.add(self.features, k.rows - 1), e.index(k.rows))
        first, last = e.share(tiles)

        def tile(t: Value) -> None:
            e.each(0, self.count, lambda q: self.tile(e.mul(t, k.rows), q), k.columns)

        e.each(first, last, tile)

    def tile(self, feature: Value, pixel: Value) -> None:
        """Sums [rows][columns]."""
        e, k = self.e, self.k
        features = [e.add(feature, i) for i in range(k.rows)]
        pixels = [e.add(pixel, i) for i in range(k.columns)]
        step = self.n.number("w_feature")
        ws = [e.mul(e.smaller(f, e.add(self.features, -1)), step) for f in features]
        xs = [e.mul(e.smaller(q, e.add(self.count, -1)), self.depth) for q in pixels]

        def terms(r: Value, sums: list[Value], mask: Value | None) -> list[Value]:
            new = [*sums]
            found = []
            for x in xs:
                p = e.at(self.rows("x"), e.add(x, r), self.scalar)
                found.append(
                    e.load(p, self.wide) if mask is None else e.load_masked(p, mask, self.wide)
                )
            for i, w in enumerate(ws):
                row = self.weights(e.add(w, r), mask)
                for j, x in enumerate(found):
                    at = i * k.columns + j
                    new[at] = e.muladd(row, x, new[at])
            return new

        sums = [e.const(self.wide, 0)] * (k.rows * k.columns)
        left = e.b.urem(self.depth, e.index(self.lanes))
        whole = e.b.sub(self.depth, left)
        sums = e.loop(0, whole, self.lanes, sums, lambda r, s: terms(r, s, None))
        some = e.b.icmp_signed(">", left, e.index(0))
        mask = e.first_lanes(left, self.lanes)
        sums = e.choose(some, lambda: terms(whole, sums, mask), lambda: sums)
        for i, f in enumerate(features):
            for j, q in enumerate(pixels):
                inside = e.b.and_(
                    e.b.icmp_signed("<", f, self.features), e.b.icmp_signed("<", q, self.count)
                )
                with e.when(inside):
                    self.finish(e.total(sums[i * k.columns + j]), f, q)

    def finish(self, total: Value, feature: Value, q: Value) -> None:
        """Store one sum."""
        e = self.e
        image, pixel = e.b.udiv(q, self.pixels), e.b.urem(q, self.pixels)
        if self.k.padded:
            zero = e.b.fsub(total, total)
            lost = e.b.fcmp_unordered("uno", zero, zero)
            (total,) = e.choose(lost, lambda: [self.exact(feature, image, pixel)], lambda: [total])
        self.outputs.store(total, image, pixel, feature)

    def exact(self, feature: Value, image: Value, pixel: Value) -> Value:
        """The sum, by the definition."""
        e, n = self.e, self.n
        taps, inner = n.number("taps"), n.number("inner")
        image_x = e.mul(image, n.number("x_image"))
        w = e.mul(feature, n.number("w_feature"))
        table = e.at(n.pointer("table"), e.mul(pixel, taps), I64)

        def tap(t: Value, total: list[Value]) -> list[Value]:
            where = e.load(e.at(table, t, I64), I64)

            def block(o: Value, total: list[Value]) -> list[Value]:
                def channel(c: Value, total: list[Value]) -> list[Value]:
                    at = e.add(image_x, where, e.mul(o, n.number("outer_x")))
                    at = e.add(at, e.mul(c, n.number("inner_x")))
                    row = e.add(w, t, e.mul(e.add(e.mul(o, inner), c), taps))
                    x, one = (load_element(e, e_at(self, a, i), self.dtype)
                              for a, i in (("source", at), ("w", row)))  # fmt: skip
                    return [e.muladd(x, one, total[0])]

                return e.loop(0, inner, 1, total, channel)

            seen = e.b.icmp_signed(">=", where, e.index(0))
            return e.choose(
                seen, lambda: e.loop(0, n.number("outer"), 1, total, block), lambda: total
            )

        return e.loop(0, taps, 1, [e.const(self.scalar, 0)], tap)[0]


@dataclass(frozen=True)
class RowSums:
    """Z[q, (k, t)] from G[q, c] and w, whose row c has all (k, t) side by side.

    Attributes:
        dtype: of w; G and Z are computed elements.
        rows, columns: rows of w and pixels that are added at once, divisors of all.
    """

    dtype: DType
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """`row_sums_f32_4x4`"""
        return f"row_sums_{self.dtype.short}_{self.rows}x{self.columns}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        return ("g", "w", "z", "count", "depth", "width", "pitch", "w_row", "chunk")

    def emit(self, e: Emitter) -> None:
        """Share chunks of columns among threads."""
        s = _Emission(e, self.dtype, self.words)
        n = s.n
        width, chunk, pitch = (n.number(w) for w in ("width", "chunk", "pitch"))
        depth, count = n.number("depth"), n.number("count")

        def z_at(q: Value, i: Value) -> Value:
            return e.at(s.rows("z"), e.add(e.mul(q, pitch), i), s.scalar)

        def add(row: Value, q: Value, start: Value, stop: Value) -> None:
            pixels = [e.add(q, j) for j in range(self.columns)]
            factors = [
                [s.splat(s.rows("g"), e.add(e.mul(p, depth), row, r)) for r in range(self.rows)]
                for p in pixels
            ]
            starts = [e.mul(e.add(row, r), n.number("w_row")) for r in range(self.rows)]

            def at(i: Value, mask: Value | None) -> None:
                weights = [s.weights(e.add(w, i), mask) for w in starts]
                for p, ones in zip(pixels, factors, strict=True):
                    total = e.load(z_at(p, i), s.wide)
                    for factor, w in zip(ones, weights, strict=True):
                        total = e.muladd(factor, w, total)
                    e.store(total, z_at(p, i))

            s.vectors(start, stop, at)

        def one(c: Value) -> None:
            start = e.mul(c, chunk)
            stop = e.smaller(e.add(start, chunk), width)

            def clear(q: Value) -> None:
                e.each(start, stop, lambda i: e.store(e.const(s.wide, 0), z_at(q, i)), s.lanes)

            def row(r: Value) -> None:
                e.each(0, count, lambda q: add(r, q, start, stop), self.columns)

            e.each(0, count, clear)
            e.each(0, depth, row, self.rows)

        e.each(*e.share(e.b.udiv(e.add(width, chunk, -1), chunk)), one)


@dataclass(frozen=True)
class PixelScatter:
    """y[n, k, o] = sum of Z[(n, i), (k, t)] over the (i, t) that meet o.

    Words: those of output o stand in `places` from `starts[o]` to `starts[o + 1]`, elements of Z.

    Attributes:
        dtype: that w had; Z is computed elements.
        y_block: channels of a block of y.
        epilogue: what is stored of a sum.
    """

    dtype: DType
    y_block: int
    epilogue: Epilogue | None = None

    @property
    def name(self) -> str:
        """`pixel_scatter_f32`"""
        return f"pixel_scatter_{self.dtype.short}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        base = f"z y starts places images z_image taps {_OUTPUTS}"
        return (*base.split(), *_operand_words(self.epilogue))

    def emit(self, e: Emitter) -> None:
        """Share (image, output, block of features) among threads."""
        s = _Emission(e, self.dtype, self.words)
        outputs = _Outputs(s, self.y_block, self.epilogue)
        n = s.n
        features, pixels, taps = (n.number(w) for w in ("features", "pixels", "taps"))
        blocks = e.b.udiv(e.add(features, FEATURES - 1), e.index(FEATURES))

        def item(i: Value) -> None:
            block, rest = e.b.urem(i, blocks), e.b.udiv(i, blocks)
            pixel, image = e.b.urem(rest, pixels), e.b.udiv(rest, pixels)
            starts = e.at(n.pointer("starts"), pixel, I64)
            first, last = (e.load(e.at(starts, j, I64), I64) for j in range(2))
            start = e.mul(block, FEATURES)

            def feature(k: Value) -> None:
                base = e.add(e.mul(image, n.number("z_image")), e.mul(k, taps))

                def place(j: Value, total: list[Value]) -> list[Value]:
                    where = e.load(e.at(n.pointer("places"), j, I64), I64)
                    p = e.at(s.rows("z"), e.add(base, where), s.scalar)
                    return [e.b.fadd(total[0], e.load(p, s.scalar))]

                (total,) = e.loop(first, last, 1, [e.const(s.scalar, 0)], place)
                outputs.store(total, image, pixel, k)

            e.each(start, e.smaller(e.add(start, FEATURES), features), feature)

        e.each(*e.share(e.mul(e.mul(n.number("images"), pixels), blocks)), item)


@dataclass(frozen=True)
class RowProducts:
    """dw[k, r] from G[q, k] and X[q, r].

    Attributes:
        dtype: of dw; G and X are computed elements.
        rows, vectors: of a tile.
        padded: whether an X is padding, where `table`, as of `PixelGather`, is -1: what is not
            finite is computed again without it.
        stream: dw does not fit in cache, and its rows begin at whole vectors.
    """

    dtype: DType
    rows: int
    vectors: int
    padded: bool
    stream: bool

    @property
    def name(self) -> str:
        """`row_products_f32_6x4`"""
        return f"row_products_{self.dtype.short}_{self.rows}x{self.vectors}"

    @property
    def words(self) -> tuple[str, ...]:
        """What the words are."""
        base = "g x dw count features depth dw_feature table pixels taps"
        return tuple(base.split())

    def emit(self, e: Emitter) -> None:
        """Share tiles of features among threads."""
        s = _Emission(e, self.dtype, self.words)
        n = s.n
        count, features, depth = (n.number(w) for w in ("count", "features", "depth"))
        step = n.number("dw_feature")

        def products(k: Value, r: Value, vectors: int, mask: Value | None) -> None:
            rows = [e.add(k, i) for i in range(self.rows)]
            known = [e.smaller(row, e.add(features, -1)) for row in rows]

            def pixel(q: Value, sums: list[Value]) -> list[Value]:
                at = e.add(e.mul(q, depth), r)
                places = [
                    e.at(s.rows("x"), e.add(at, j * s.lanes), s.scalar) for j in range(vectors)
                ]
                xs = [
                    e.load(p, s.wide) if mask is None else e.load_masked(p, mask, s.wide)
                    for p in places
                ]
                new = []
                for i, row in enumerate(known):
                    g = s.splat(s.rows("g"), e.add(e.mul(q, features), row))
                    new += [e.muladd(g, x, sums[i * vectors + j]) for j, x in enumerate(xs)]
                return new

            zero = [e.const(s.wide, 0)] * (self.rows * vectors)
            sums = e.loop(0, count, 1, zero, pixel)
            for i, row in enumerate(rows):
                with e.when(e.b.icmp_signed("<", row, features)):
                    for j in range(vectors):
                        at = e.add(e.mul(row, step), r, j * s.lanes)
                        stream = self.stream and mask is None
                        place = e_at(s, "dw", at)
                        store_element(e, sums[i * vectors + j], place, self.dtype, mask, stream)
            if not self.padded:
                return
            lost = e.const(s.wide, 0)
            for total in sums:
                lost = e.muladd(total, e.const(s.wide, 0), lost)
            none = e.total(lost)
            with e.when(e.b.fcmp_unordered("uno", none, none)):
                stop = e.smaller(e.add(r, vectors * s.lanes), depth)
                for row in rows:
                    with e.when(e.b.icmp_signed("<", row, features)):
                        e.each(r, stop, partial(exact, row))

        def exact(k: Value, r: Value) -> None:
            tap = e.b.urem(r, n.number("taps"))

            def pixel(q: Value, total: list[Value]) -> list[Value]:
                place = e.mul(e.b.urem(q, n.number("pixels")), n.number("taps"))
                where = e.load(e.at(n.pointer("table"), e.add(place, tap), I64), I64)

                def add() -> list[Value]:
                    x = e.at(s.rows("x"), e.add(e.mul(q, depth), r), s.scalar)
                    g = e.at(s.rows("g"), e.add(e.mul(q, features), k), s.scalar)
                    return [e.muladd(e.load(g, s.scalar), e.load(x, s.scalar), total[0])]

                return e.choose(e.b.icmp_signed(">=", where, e.index(0)), add, lambda: total)

            (total,) = e.loop(0, count, 1, [e.const(s.scalar, 0)], pixel)
            store_element(e, total, e_at(s, "dw", e.add(e.mul(k, step), r)), self.dtype)

        def tile(t: Value) -> None:
            k, width = e.mul(t, self.rows), self.vectors * s.lanes
            whole = e.b.sub(depth, e.b.urem(depth, e.index(width)))
            e.each(0, whole, lambda r: products(k, r, self.vectors, None), width)
            s.vectors(whole, depth, lambda r, mask: products(k, r, 1, mask))

        e.each(*e.share(e.b.udiv(e.add(features, self.rows - 1), e.index(self.rows))), tile)
        if self.stream:
            e.publish()
