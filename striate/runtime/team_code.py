"""The native half of the thread team: one function that every thread of it calls.

    team(words, thread, _)      thread 0: one run, then return; the others: run what is posted

A run is published in the words by its caller and handed down a binary heap: thread t posts it in
the mailboxes of 2t+1 and 2t+2, so that a wake-up of many takes log2 steps. All walk the same rows
and do their share of each. The central barrier reverses its sense: the last to arrive resets the
count and advances the generation that the others watch. A run ends with a barrier, after which
nobody reads what was published.

Who waits spins for a while, then parks: `parked = 1; unless what it awaits came: sleep while
parked`. Who wakes: `what it awaits := new; if exchange(parked, 0): wake`. Both store, then load,
sequentially consistent, so one always sees the other; a spurious wake-up is harmless. A wake-up may
end on a processor that another thread of the team has: see `settle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from llvmlite import ir

from striate.codegen.emitter import I32, I64, POINTER, VOID, Emitter, Value
from striate.runtime.placing import WORDS

LINE = 16  # i64 words in 128 bytes: prefetchers fetch cache lines in pairs
BARRIER, SINGLE = 1, 2  # flags of a row


class Word(IntEnum):
    """Words of a team; those before ARRIVED are written by the caller of a run."""

    ROWS = 0  # address of i64[count, 3]: kernel, words, flags; 0 ends the workers
    COUNT = 1
    FIRST = 2
    THREADS = 3
    RUN = 4  # a number that no earlier run had
    PROFILE = 5  # address of i64[count]: ticks are added; or 0
    SLICE = 6  # ticks until thread 0 makes all leave at the next barrier
    SPIN = 7  # ticks until who waits at a barrier parks
    PATIENCE = 8  # ticks until who waits for a run parks
    SLEEP = 9  # address of sleep(handle, -1, 0)
    WAKE = 10  # address of wake(handle, 1, 0)
    LOCATE = 11  # address of i32 locate(); 0 if there is none
    MOVE = 12  # address of move(0, bytes, set of processors)
    NEXT = 13  # out: the first row that was not run
    TICKS = 14  # out: the clock at the end
    ARRIVED = LINE
    GENERATION = 2 * LINE
    STOP = 3 * LINE  # the row before which all leave
    ALLOWED = 4 * LINE  # the processors that a thread may use, i64[WORDS]
    MAIL = ALLOWED + WORDS  # a line a thread


class Mail(IntEnum):
    """Words of a thread's mailbox."""

    EPOCH = 0  # the run that was posted last
    PARKED = 1
    HANDLE = 2  # what it sleeps on
    VAIN = 3  # how often in a row it has spun in vain
    PROCESSOR = 4  # that it has run on last; -1: unknown


_TRIES, _REST = 4, 64  # after so many spins in vain, park at once so many times
_FLUSHED_X86 = 0x9FC0  # MXCSR: to nearest, no exceptions, FTZ, DAZ
_FLUSHED_ARM = 1 << 24  # FPCR: to nearest, no exceptions, FZ


@dataclass(frozen=True)
class TeamCode:
    """The code of the team, as a kernel."""

    @property
    def name(self) -> str:
        """Its name."""
        return "team"

    def emit(self, e: Emitter) -> None:
        """Emit the function."""
        e.words.attributes.discard("noalias")  # other threads write them
        code = _Code(e)
        with code.denormals_flushed():
            code.serve()


class _Code:
    """Emits into `e`; a Python method is a piece of the function."""

    def __init__(self, e: Emitter) -> None:
        self.e, self.b = e, e.b
        self.team, self.thread = e.words, e.thread
        self.arm = e.target.triple.startswith("aarch64")
        self.mine = self.mailbox(self.thread)

    # ---- words -------------------------------------------------------------------------

    def mailbox(self, thread: Value) -> Value:
        line = self.b.add(self.b.mul(thread, self.e.index(LINE)), self.e.index(Word.MAIL.value))
        return self.e.at(self.team, line, I64)

    def word(self, word: Word) -> Value:
        """Its address."""
        return self.e.at(self.team, word.value, I64)

    def read(self, word: Word, type: Any = I64) -> Value:
        """A word that does not change during a run."""
        return self.b.load(self.word(word), typ=type, align=8)

    def field(self, mail: Value, field: Mail) -> Value:
        """The address of a mailbox's word."""
        return self.e.at(mail, field.value, I64)

    def observe(self, p: Value) -> Value:
        """A word that another thread may change."""
        return self.b.load_atomic(p, "seq_cst", 8, typ=I64)

    def exchange(self, p: Value, value: int | Value) -> Value:
        """Its old value."""
        return self.b.atomic_rmw("xchg", p, self.e.index(value), "seq_cst")

    # ---- control flow ------------------------------------------------------------------

    def variable(self, value: int | Value, type: Any = I64) -> Value:
        """The address of a local variable."""
        with self.b.goto_entry_block():
            p = self.b.alloca(type)
        self.b.store(self.e.index(value), p)
        return p

    def load(self, p: Value) -> Value:
        return self.b.load(p, typ=I64)

    def add_to(self, p: Value, n: int | Value) -> Value:
        total = self.b.add(self.load(p), self.e.index(n))
        self.b.store(total, p)
        return total

    def is_(self, x: Value, relation: str, y: int | Value) -> Value:
        return self.b.icmp_signed(relation, x, self.e.index(y))

    @contextmanager
    def forever(self) -> Iterator[Callable[[Value], None]]:
        """Repeat the block; `leave_if(condition)` goes past it."""
        b = self.b
        head, done = b.append_basic_block("again"), b.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)

        def leave_if(condition: Value) -> None:
            rest = b.append_basic_block("rest")
            b.cbranch(condition, done, rest)
            b.position_at_end(rest)

        yield leave_if
        b.branch(head)
        b.position_at_end(done)

    # ---- the processor -----------------------------------------------------------------

    def ticks(self) -> Value:
        """A clock of constant rate; AArch64 keeps its cycle counter from programs."""
        if self.arm:
            register = self.e.module.add_metadata(["cntvct_el0"])
            return self.e.intrinsic("llvm.read_volatile_register.i64", I64, register)
        return self.e.intrinsic("llvm.readcyclecounter", I64)

    def pause(self) -> None:
        """A short wait that leaves the core to its other hardware thread."""
        if self.arm:
            self.e.intrinsic("llvm.aarch64.isb", VOID, ir.Constant(I32, 15))
        else:
            self.e.intrinsic("llvm.x86.sse2.pause", VOID)

    @contextmanager
    def denormals_flushed(self) -> Iterator[None]:
        """Every thread computes in the same mode; the caller gets its own back."""
        if self.arm:
            control = self.e.intrinsic("llvm.aarch64.get.fpcr", I64)
            self.e.intrinsic("llvm.aarch64.set.fpcr", VOID, self.e.index(_FLUSHED_ARM))
            yield
            self.e.intrinsic("llvm.aarch64.set.fpcr", VOID, control)
        else:
            before, within = self.b.alloca(I32), self.b.alloca(I32)
            self.e.intrinsic("llvm.x86.sse.stmxcsr", VOID, before)
            self.b.store(ir.Constant(I32, _FLUSHED_X86), within)
            self.e.intrinsic("llvm.x86.sse.ldmxcsr", VOID, within)
            yield
            self.e.intrinsic("llvm.x86.sse.ldmxcsr", VOID, before)

    # ---- waiting -----------------------------------------------------------------------

    def call_system(self, word: Word, mail: Value, argument: int) -> None:
        """sleep or wake: unused arguments are in registers that the callee ignores."""
        function = self.read(word, ir.FunctionType(VOID, [I64, I64, I64]).as_pointer())
        handle = self.b.load(self.field(mail, Mail.HANDLE), typ=I64, align=8)
        self.b.call(function, [handle, self.e.index(argument), self.e.index(0)])

    def wake(self, mail: Value) -> None:
        """The owner of a mailbox, if it is parked."""
        parked = self.field(mail, Mail.PARKED)
        with (
            self.e.when(self.is_(self.observe(parked), "==", 1)),
            self.e.when(self.is_(self.exchange(parked, 0), "==", 1)),
        ):
            self.call_system(Word.WAKE, mail, 1)

    def park(self, arrived: Callable[[], Value]) -> None:
        parked = self.field(self.mine, Mail.PARKED)
        self.exchange(parked, 1)
        with self.e.either(arrived()) as (late, early):
            with late:
                self.exchange(parked, 0)
            with early, self.forever() as leave_if:
                leave_if(self.is_(self.observe(parked), "==", 0))
                self.call_system(Word.SLEEP, self.mine, -1)

    def wait(self, arrived: Callable[[], Value], limit: Value) -> Value:
        """Until `arrived()`: with pauses for `limit` ticks, then parked. -> how often it parked"""
        start, parked = self.ticks(), self.variable(0)
        with self.forever() as leave_if:
            leave_if(arrived())
            spent = self.b.sub(self.ticks(), start)
            with self.e.either(self.is_(spent, "<", limit)) as (soon, later):
                with soon:
                    self.pause()
                with later:
                    self.add_to(parked, 1)
                    self.park(arrived)
                    self.settle()
        return self.load(parked)

    def barrier(self, threads: Value) -> None:
        """Return when all have come; nothing if there is one thread."""
        arrived, generation = self.word(Word.ARRIVED), self.word(Word.GENERATION)
        with self.e.when(self.is_(threads, ">", 1)):
            before = self.observe(generation)
            number = self.b.atomic_rmw("add", arrived, self.e.index(1), "seq_cst")
            last = self.is_(self.b.add(number, self.e.index(1)), "==", threads)
            with self.e.either(last) as (the_last, others):
                with the_last:
                    self.exchange(arrived, 0)
                    self.exchange(generation, self.b.add(before, self.e.index(1)))
                    self.e.each(0, threads, lambda t: self.wake(self.mailbox(t)))
                with others:
                    self.wait_at_barrier(lambda: self.is_(self.observe(generation), "!=", before))

    def wait_at_barrier(self, arrived: Callable[[], Value]) -> None:
        """Fewer cores than threads: spinning keeps from its core the thread that is awaited."""
        b, field = self.b, self.field(self.mine, Mail.VAIN)
        vain = self.load(field)
        spin = self.read(Word.SPIN)
        short = b.ashr(spin, self.e.index(6))
        parked = self.wait(arrived, b.select(self.is_(vain, "<", _TRIES), spin, short))
        more = b.add(vain, self.e.index(1))
        more = b.select(self.is_(more, "<", _TRIES + _REST), more, self.e.index(0))
        b.store(b.select(self.is_(parked, ">", 0), more, self.e.index(0)), field)

    # ---- processors --------------------------------------------------------------------

    def settle(self) -> None:
        """Say where this thread runs; leave a processor that an earlier thread has."""
        with self.e.when(self.is_(self.read(Word.LOCATE), "!=", 0)):
            here, together = self.locate(), self.variable(0)

            def compare(there: Value) -> None:
                with self.e.when(self.b.icmp_signed("==", here, there)):
                    self.b.store(self.e.index(1), together)

            self.each_earlier(compare)
            with self.e.when(self.is_(self.load(together), "==", 1)):
                self.leave()
                self.locate()

    def locate(self) -> Value:
        """The processor of this thread, which is told to the others."""
        function = self.read(Word.LOCATE, ir.FunctionType(I32, []).as_pointer())
        here = self.b.sext(self.b.call(function, []), I64)
        told = self.field(self.mine, Mail.PROCESSOR)
        with self.e.when(
            self.is_(self.observe(told), "!=", here)
        ):  # its line stays in others' caches
            self.exchange(told, here)
        return here

    def each_earlier(self, body: Callable[[Value], None]) -> None:
        """body(processor) for each earlier thread."""
        self.e.each(
            0, self.thread,
            lambda t: body(self.observe(self.field(self.mailbox(t), Mail.PROCESSOR))),
        )  # fmt: skip

    def leave(self) -> None:
        """From now on use processors that no earlier thread has, if there are any."""
        b, e = self.b, self.e
        with b.goto_entry_block():
            free = b.alloca(I64, WORDS)

        def word(i: int | Value) -> Value:
            return e.at(free, i, I64)

        for i in range(WORDS):
            b.store(b.load(e.at(self.team, Word.ALLOWED + i, I64), typ=I64, align=8), word(i))

        def strike(there: Value) -> None:
            with e.when(b.icmp_unsigned("<", there, e.index(64 * WORDS))):
                bit = b.shl(e.index(1), b.and_(there, e.index(63)))
                p = word(b.lshr(there, e.index(6)))
                b.store(b.and_(self.load(p), b.not_(bit)), p)

        self.each_earlier(strike)
        left = e.index(0)
        for i in range(WORDS):
            left = b.or_(left, self.load(word(i)))
        with e.when(self.is_(left, "!=", 0)):
            move = self.read(Word.MOVE, ir.FunctionType(VOID, [I64, I64, POINTER]).as_pointer())
            b.call(move, [e.index(0), e.index(8 * WORDS), free])

    # ---- runs --------------------------------------------------------------------------

    def serve(self) -> None:
        """Thread 0: one run. The others: one run after the other."""
        b, epoch = self.b, self.field(self.mine, Mail.EPOCH)
        caller = self.is_(self.thread, "==", 0)
        seen = self.variable(0)
        with self.forever() as leave_if:
            with self.e.either(caller) as (first, others):
                with first:
                    self.exchange(self.word(Word.STOP), -1)
                with others:
                    self.wait(
                        lambda: self.is_(self.observe(epoch), "!=", self.load(seen)),
                        self.read(Word.PATIENCE),
                    )
                    b.store(self.observe(epoch), seen)
            self.settle()
            self.post()
            leave_if(self.is_(self.read(Word.ROWS), "==", 0))
            self.walk()
            leave_if(caller)
        with self.e.when(caller):
            b.store(self.ticks(), self.word(Word.TICKS))

    def post(self) -> None:
        """Hand the run to this thread's two children."""
        b, threads, run = self.b, self.read(Word.THREADS), self.read(Word.RUN)
        twice = b.add(self.thread, self.thread)
        for child in (b.add(twice, self.e.index(1)), b.add(twice, self.e.index(2))):
            with self.e.when(self.is_(child, "<", threads)):
                mail = self.mailbox(child)
                self.exchange(self.field(mail, Mail.EPOCH), run)
                self.wake(mail)

    def walk(self) -> None:
        """Call the kernels, from row FIRST to the end or to where thread 0 makes all stop."""
        b, e, thread = self.b, self.e, self.thread
        count, threads = self.read(Word.COUNT), self.read(Word.THREADS)
        profile = self.read(Word.PROFILE, POINTER)
        profiled = b.icmp_unsigned("!=", self.read(Word.PROFILE), e.index(0))
        rows, stop = self.read(Word.ROWS, POINTER), self.word(Word.STOP)
        first = b.icmp_signed("==", thread, e.index(0))
        start = self.ticks()
        deadline = b.add(start, self.read(Word.SLICE))
        before, i = self.variable(start), self.variable(self.read(Word.FIRST))
        with self.forever() as leave_if:
            row = e.at(rows, b.mul(self.load(i), e.index(3)), I64)
            flags = b.load(e.at(row, 2, I64), typ=I64, align=8)
            self.call(row, flags, self.load(i), threads)
            following = self.add_to(i, 1)
            last = self.is_(following, "==", count)
            meet = b.icmp_signed("!=", b.and_(flags, e.index(BARRIER)), e.index(0))
            with e.when(b.or_(meet, b.or_(last, profiled))):
                with e.when(b.and_(first, self.is_(self.ticks(), ">", deadline))):
                    self.exchange(stop, following)
                self.barrier(threads)
                with e.when(b.and_(first, profiled)):
                    now = self.ticks()
                    spent = b.sub(now, self.load(before))
                    self.add_to(e.at(profile, b.sub(following, e.index(1)), I64), spent)
                    b.store(now, before)
            leave_if(last)
            # A STOP that is later than this row is of a later barrier: not yet for this thread.
            leave_if(self.is_(following, "==", self.observe(stop)))
        following = self.load(i)
        with e.when(self.is_(following, "<", count)):
            self.barrier(threads)  # nobody reads this run's STOP any more
        with e.when(first):
            b.store(following, self.word(Word.NEXT))

    def call(self, row: Value, flags: Value, i: Value, threads: Value) -> None:
        """This thread's share of a row."""
        b, e = self.b, self.e
        type = ir.FunctionType(VOID, [POINTER, I64, I64]).as_pointer()
        kernel = b.load(row, typ=type, align=8)
        words = b.load(e.at(row, 1, I64), typ=POINTER, align=8)
        single = b.icmp_signed("!=", b.and_(flags, e.index(SINGLE)), e.index(0))
        with e.either(single) as (alone, shared):
            with alone, e.when(b.icmp_signed("==", b.urem(i, threads), self.thread)):
                b.call(kernel, [words, e.index(0), e.index(1)])
            with shared:
                b.call(kernel, [words, self.thread, threads])
