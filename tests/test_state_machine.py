"""The pool against a dict: random sequences of every operation, with the contents, the figures and the metadata checked."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

import tensorcore as tc

SIZES = st.one_of(st.integers(0, 2000), st.sampled_from([4096, 65_536, 80_000, 1 << 20, (1 << 20) + 1]), st.integers(0, 3 << 20))
MARK = 64  # bytes of pattern at each end of a block


class PoolAgainstDict(RuleBasedStateMachine):
    """`live` maps the address of each block to what it must be; the pool is right when it agrees after every step."""

    blocks: Bundle[int] = Bundle("blocks")

    @initialize(limit=st.sampled_from([None, 16 << 20]), capacity=st.sampled_from([0, 1 << 20]), decay=st.sampled_from([0, None]))
    def open(self, limit: int | None, capacity: int, decay: float | None) -> None:
        """A pool with or without a limit."""
        self.pool = tc.MemoryPool(capacity, limit=limit, decay=decay)
        self.live: dict[int, tuple[int, int]] = {}
        self.tensors: list[tuple[tc.Tensor, int]] = []
        self.allocations = self.deallocations = 0
        self.next_value = 0

    def write(self, address: int, nbytes: int) -> int:
        """Mark both ends of a block with a value of its own."""
        self.next_value = (self.next_value + 1) % 256
        ctypes.memset(address, self.next_value, min(nbytes, MARK))
        ctypes.memset(address + max(0, nbytes - MARK), self.next_value, min(nbytes, MARK))
        return self.next_value

    def check_content(self, address: int) -> None:
        """The marks of a block are what was written."""
        nbytes, value = self.live[address]
        ends = ctypes.string_at(address, min(nbytes, MARK)) + ctypes.string_at(address + max(0, nbytes - MARK), min(nbytes, MARK))
        assert set(ends) <= {value}

    @rule(target=blocks, nbytes=SIZES, alignment=st.sampled_from([None, None, 64, 4096, 2 << 20]))
    def allocate(self, nbytes: int, alignment: int | None) -> Any:
        """A new block overlaps no other; only a limit may refuse."""
        try:
            address = self.pool.allocate(nbytes, alignment=alignment)
        except tc.OutOfMemoryError:
            assert self.pool.limit is not None
            return multiple()
        assert address % (alignment or 64) == 0
        assert all(address + max(nbytes, 1) <= other or other + max(size, 1) <= address for other, (size, _) in self.live.items())
        self.live[address] = nbytes, self.write(address, nbytes)
        self.allocations += 1
        return address

    @rule(address=consumes(blocks), sized=st.booleans())
    def deallocate(self, address: int, sized: bool) -> None:
        """Its content was untouched, and the block goes."""
        self.check_content(address)
        nbytes, _ = self.live.pop(address)
        self.pool.deallocate(address, nbytes if sized else None)
        self.deallocations += 1

    @rule(address=blocks, offset=st.integers(1, 5000))
    def deallocate_wrongly(self, address: int, offset: int) -> None:
        """Interior, wild or mis-sized: refused, unless another block happens to start there."""
        with pytest.raises(tc.SizeMismatchError):
            self.pool.deallocate(address, self.live[address][0] + offset)
        if address + offset not in self.live:
            with pytest.raises((tc.InvalidFreeError, tc.DoubleFreeError)):
                self.pool.deallocate(address + offset)

    @rule(rows=st.integers(0, 300), columns=st.integers(0, 300))
    def make_tensor(self, rows: int, columns: int) -> None:
        """Its storage is a block like any other."""
        try:
            tensor = tc.Tensor((rows, columns), pool=self.pool)
        except tc.OutOfMemoryError:
            assert self.pool.limit is not None
            return
        self.allocations += 1
        self.next_value = (self.next_value + 1) % 256
        tensor.fill(self.next_value)
        self.tensors.append((tensor, self.next_value))

    @rule(data=st.data())
    def drop_tensor(self, data: st.DataObject) -> None:
        """Its content was untouched."""
        if self.tensors:
            tensor, value = self.tensors.pop(data.draw(st.integers(0, len(self.tensors) - 1)))
            assert np.all(tensor.numpy() == value)
            self.deallocations += 1

    @rule(keep=st.sampled_from([0, 1 << 20]))
    def trim(self, keep: int) -> None:
        """At most `keep` bytes stay cached."""
        before = self.pool.total_capacity
        assert 0 <= self.pool.trim(keep) <= before

    @rule(capacity=st.sampled_from([1 << 20, 8 << 20]))
    def reserve(self, capacity: int) -> None:
        """That much is held afterwards, or the limit refused."""
        try:
            self.pool.reserve(capacity)
            assert self.pool.total_capacity >= capacity
        except tc.OutOfMemoryError:
            assert self.pool.limit is not None

    @invariant()
    def agrees(self) -> None:
        """The figures are those of the dict, in order, and the metadata is whole."""
        if not hasattr(self, "pool"):
            return
        self.pool.check()
        statistics = self.pool.statistics
        sizes = [size for size, _ in self.live.values()] + [tensor.nbytes for tensor, _ in self.tensors]
        assert statistics.requested.current == sum(sizes)
        assert (statistics.allocation_count, statistics.deallocation_count) == (self.allocations, self.deallocations)
        assert statistics.requested.current <= statistics.allocated.current <= statistics.reserved.current
        cached = statistics.reserved.current - statistics.allocated.current
        assert statistics.cached.current + statistics.pending.current == cached
        for amount in (statistics.requested, statistics.allocated, statistics.reserved):
            assert amount.peak >= amount.current == amount.total_allocated - amount.total_freed
        assert self.pool.limit is None or statistics.reserved.peak <= self.pool.limit

    def teardown(self) -> None:
        """Everything goes back: all current figures are 0."""
        if not hasattr(self, "pool"):
            return
        for address in list(self.live):
            self.check_content(address)
            self.pool.deallocate(address, self.live[address][0])
        self.tensors.clear()
        self.pool.trim()
        statistics = self.pool.statistics
        amounts = (statistics.requested, statistics.allocated, statistics.reserved, statistics.cached, statistics.pending)
        assert [amount.current for amount in amounts] == [0] * 5
        self.pool.close()


TestPoolAgainstDict = PoolAgainstDict.TestCase
TestPoolAgainstDict.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
