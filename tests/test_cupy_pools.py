"""The faces of CuPy's pools over fake devices: what CuPy's own tests ask of its pools, asked of ours, without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc
from tensorcore import _cupy_hook

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x")
memory = cupy.cuda.memory

if TYPE_CHECKING:
    from conftest import FakeGpus, FakePinned

UNIT = 512
LARGE = 3 << 20  # bytes: above what small blocks' segments serve
STREAM, OTHER_STREAM = 16, 32  # handles


# ---- allocations: CuPy's TestSingleDeviceMemoryPool ------------------------------------------------------------------------------


def test_live_blocks_have_different_addresses(face: FakeGpus) -> None:
    """Of equal and of different sizes; each a multiple of 512."""
    pointers = [face.malloc(nbytes) for nbytes in (UNIT * 4, UNIT * 4, UNIT * 8, 1, LARGE)]
    assert len({pointer.ptr for pointer in pointers}) == 5
    assert all(pointer.ptr % UNIT == 0 for pointer in pointers)
    assert [pointer.mem.size for pointer in pointers] == [UNIT * 4, UNIT * 4, UNIT * 8, 1, LARGE]


@pytest.mark.parametrize("nbytes", [1, UNIT * 4, LARGE])
def test_a_freed_block_is_handed_out_again_on_its_stream(face: FakeGpus, nbytes: int) -> None:
    """At once; the next allocation of that size has its address."""
    pointer = face.malloc(nbytes)
    address = pointer.ptr
    del pointer
    assert face.malloc(nbytes).ptr == address


def test_a_freed_block_is_not_handed_to_another_stream_before_its_event(face: FakeGpus, fake: tc.FakeDeviceUpstream) -> None:
    """Work that the first stream was given still runs; the fake notes a hand-over that comes too early."""
    with fake.using_stream(STREAM):
        pointer = face.malloc(UNIT)
        fake.enqueue(STREAM, 100, pointer.ptr, UNIT)
        address = pointer.ptr
        del pointer
    with fake.using_stream(OTHER_STREAM):
        taken = face.malloc(UNIT)
        assert not fake.claim(OTHER_STREAM, taken.ptr, UNIT)
    with fake.using_stream(STREAM):
        assert face.malloc(UNIT).ptr == address


def test_a_pointer_moves_inside_its_block_and_keeps_it(face: FakeGpus) -> None:
    """As CuPy's pointer arithmetic has it."""
    pointer = face.malloc(UNIT)
    later = pointer + 100
    assert later.ptr == pointer.ptr + 100
    del pointer
    assert face.used_bytes() >= UNIT
    del later
    assert face.used_bytes() == 0


def test_zero_bytes_are_no_block(face: FakeGpus) -> None:
    """As with CuPy's pool: address 0, nothing taken."""
    pointer = face.malloc(0)
    assert (pointer.ptr, pointer.mem.size, face.used_bytes(), face.total_bytes()) == (0, 0, 0, 0)


def test_a_split_block_is_one_again_when_its_parts_are_free(face: FakeGpus) -> None:
    """Two halves of a large block are taken from it, and together make it again."""
    face.set_limit(16 << 20)
    whole = face.malloc(12 << 20)
    held = face.total_bytes()
    del whole
    halves = [face.malloc(6 << 20) for _ in range(2)]
    assert face.total_bytes() == held
    halves.clear()
    assert face.malloc(12 << 20).mem.size == 12 << 20
    assert face.total_bytes() == held


# ---- limits and errors -----------------------------------------------------------------------------------------------------------


def test_a_refusal_is_tensorcores_and_cupys_out_of_memory_error(face: FakeGpus) -> None:
    """A MemoryError too; it carries the figures, and the pool goes on."""
    face.set_limit(8 << 20)
    kept = face.malloc(4 << 20)
    with pytest.raises(memory.OutOfMemoryError, match=r"6\.00 MiB") as caught:
        face.malloc(6 << 20)
    assert isinstance(caught.value, tc.OutOfMemoryError)
    assert isinstance(caught.value, MemoryError)
    assert (caught.value.requested, caught.value.limit, caught.value.device) == (6 << 20, 8 << 20, "cuda:0")
    del kept
    assert face.malloc(6 << 20).ptr != 0


def test_no_array_has_a_null_pointer_when_memory_is_short(installed: FakeGpus) -> None:
    """The error comes from `cupy.empty` itself, and from views of the error's kinds."""
    installed.set_limit(4 << 20)
    with pytest.raises(memory.OutOfMemoryError):
        cupy.empty(1 << 30, "u1")
    with pytest.raises(MemoryError):
        cupy.empty(1 << 30, "u1")
    assert cupy.empty(1000).data.ptr != 0


def test_a_failing_device_is_an_error_and_no_array(face: FakeGpus, fake: tc.FakeDeviceUpstream) -> None:
    """The upstream's refusal is out of memory here; the next call works."""
    fake.set(fail_at=1, fail_count=1000)
    with pytest.raises(tc.OutOfMemoryError):
        face.malloc(UNIT)
    fake.set()
    assert face.malloc(UNIT).ptr != 0


def test_garbage_and_callbacks_make_room_before_the_error(face: FakeGpus, device_pool: tc.MemoryPool) -> None:
    """A cycle that holds a block is collected; then the callback drops the other one."""
    face.set_limit(12 << 20)
    cycle: list[Any] = [face.malloc(8 << 20)]
    cycle.append(cycle)
    del cycle
    kept = [face.malloc(8 << 20)]
    device_pool.on_out_of_memory(lambda *_: kept.clear())
    assert face.malloc(8 << 20).ptr != 0
    assert kept == []


def test_a_limit_is_set_as_cupys_is(face: FakeGpus, fake: tc.FakeDeviceUpstream) -> None:
    """By bytes or fraction, 0 or nothing for none; both, or out of range, is refused and changes nothing."""
    assert face.get_limit() == 0
    face.set_limit(size=1 << 33)
    assert face.get_limit() == 1 << 33
    fake.set(capacity=1 << 30)
    face.set_limit(fraction=0.5)
    assert face.get_limit() == 1 << 29
    for arguments, message in (
        ({"size": -1}, "-1 is below 0"),
        ({"fraction": -0.1}, "-0.1 is not in 0 to 1"),
        ({"fraction": 1.1}, "1.1 is not in 0 to 1"),
        ({"size": 0, "fraction": 0.5}, "at one time"),
    ):
        with pytest.raises(ValueError, match=message):
            face.set_limit(**arguments)
    assert face.get_limit() == 1 << 29
    face.set_limit(fraction=0)
    assert face.get_limit() == 0
    face.set_limit(size=1024)
    face.set_limit()
    assert face.get_limit() == 0


def test_a_limit_below_what_is_held_gives_back_and_is_kept(face: FakeGpus) -> None:
    """CuPy's #7678: a limit that the cached block fills does not stop another size."""
    face.set_limit(8 << 20)
    pointer = face.malloc(6 << 20)
    del pointer
    assert face.malloc(7 << 20).ptr != 0
    assert face.total_bytes() <= 8 << 20


def test_cupys_environment_variable_limits_the_global_pool(face: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes or percent; not over a limit that is there; what is neither is refused by name."""
    monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", "1000000")
    _cupy_hook._limit_by_environment(face)
    assert face.get_limit() == 1_000_000
    monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", "2000000")
    _cupy_hook._limit_by_environment(face)
    assert face.get_limit() == 1_000_000
    for text in ("much", "-5", "200%", "x%"):
        face.set_limit()
        monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", text)
        with pytest.raises(ValueError, match=f"CUPY_GPU_MEMORY_LIMIT='{text}' is neither"):
            _cupy_hook._limit_by_environment(face)


def test_a_closed_pool_is_named(face: FakeGpus, device_pool: tc.MemoryPool) -> None:
    """A block that lives on goes back without a complaint."""
    pointer = face.malloc(UNIT)
    device_pool.close()
    with pytest.raises(tc.PoolClosedError, match="was closed"):
        face.malloc(UNIT)
    del pointer


def test_pools_of_the_wrong_device_or_two_of_one_are_refused(pool: tc.MemoryPool, device_pool: tc.MemoryPool) -> None:
    """When the face is made."""
    with pytest.raises(tc.DeviceMismatchError, match="not of a device 'cuda'"):
        tc.CupyMemoryPool([pool])
    with pytest.raises(ValueError, match="second pool of its device"):
        tc.CupyMemoryPool([device_pool, device_pool])
    with pytest.raises(tc.DeviceMismatchError, match="not of a device 'pinned'"):
        tc.CupyPinnedMemoryPool([device_pool])


# ---- figures and giving back -----------------------------------------------------------------------------------------------------


def test_used_free_and_total_bytes_add_up(face: FakeGpus) -> None:
    """At every step; used counts the blocks' capacity, in multiples of 512."""
    for sizes in ((UNIT * 2,), (UNIT * 2, UNIT * 4), (UNIT, LARGE)):
        pointers = [face.malloc(nbytes) for nbytes in sizes]
        assert face.used_bytes() == sum(-(-nbytes // UNIT) * UNIT for nbytes in sizes)
        assert face.used_bytes() + face.free_bytes() == face.total_bytes()
        pointers.clear()
        assert face.used_bytes() == 0
        assert face.free_bytes() == face.total_bytes() > 0
    face.free_all_blocks()
    assert face.total_bytes() == face.free_bytes() == 0


@pytest.mark.parametrize("nbytes", [UNIT, LARGE])
def test_free_blocks_are_counted_and_given_back(face: FakeGpus, nbytes: int) -> None:
    """A free block counts; after free_all_blocks there is none."""
    assert face.n_free_blocks() == 0
    pointer = face.malloc(nbytes)
    del pointer
    assert face.n_free_blocks() >= 1
    face.free_all_blocks()
    assert (face.n_free_blocks(), face.total_bytes()) == (0, 0)


def test_what_one_stream_freed_is_given_back_alone(face: FakeGpus, fake: tc.FakeDeviceUpstream) -> None:
    """free_all_blocks(stream) leaves what another stream freed."""
    pointers = []
    for handle in (STREAM, OTHER_STREAM):
        with fake.using_stream(handle):
            pointers.append(face.malloc(32 << 20))
    fake.enqueue(OTHER_STREAM, 10)
    pointers.clear()
    held = face.total_bytes()
    face.free_all_blocks(stream=STREAM)
    assert 0 < face.total_bytes() < held
    face.free_all_blocks()
    assert face.total_bytes() == 0


def test_free_all_free_is_deprecated(face: FakeGpus) -> None:
    """As CuPy's is; it does what free_all_blocks does."""
    pointer = face.malloc(UNIT)
    del pointer
    with pytest.warns(DeprecationWarning, match="free_all_blocks"):
        face.free_all_free()
    assert face.total_bytes() == 0


def test_each_device_has_its_pool(face: FakeGpus, device_pool: tc.MemoryPool) -> None:
    """A call means the current device's; the block goes back to its own from anywhere."""
    with tc.MemoryPool(device="cuda:1", upstream="fake") as second:
        both = type(face)(device_pool, second)
        first = both.malloc(UNIT)
        both.device = 1
        assert both.used_bytes() == 0
        pointer = both.malloc(UNIT * 2)
        assert (pointer.device.id, first.device.id) == (1, 0)
        assert (both.used_bytes(), device_pool.total_allocated) == (UNIT * 2, UNIT)
        del first
        assert device_pool.total_allocated == 0
        assert both.pools == (device_pool, second)
        del pointer


# ---- pinned: CuPy's test_pinned_memory -------------------------------------------------------------------------------------------


def test_pinned_blocks_are_exact_and_reused(pinned: FakePinned) -> None:
    """No power of two: 5,000 bytes are 5,000 bytes; the same block comes again."""
    pointer = pinned.malloc(5000)
    assert isinstance(pointer, cupy.cuda.PinnedMemoryPointer)
    assert isinstance(pointer.mem, cupy.cuda.PinnedMemory)
    assert (pointer.size(), pinned.pool().total_allocated) == (5000, 5120)
    memoryview(pointer).cast("B")[4999] = 7
    address = pointer.ptr
    del pointer
    assert pinned.pool().total_allocated == 0
    assert pinned.malloc(5000).ptr == address


def test_pinned_pointers_move_and_keep_their_block(pinned: FakePinned) -> None:
    """As CuPy's pointer arithmetic has it."""
    pointer = pinned.malloc(1000) + 100
    assert pointer.size() == 900
    assert pinned.pool().total_allocated > 0
    del pointer
    assert pinned.pool().total_allocated == 0


def test_pinned_blocks_are_counted_freed_twice_and_given_back(pinned: FakePinned) -> None:
    """`free` by hand is right once and harmless twice; zero bytes are no block."""
    assert pinned.n_free_blocks() == 0
    pinned.free_all_blocks()
    mem = pinned.malloc(1).mem
    mem.free()
    mem.free()
    assert pinned.n_free_blocks() >= 1
    pinned.free_all_blocks()
    assert (pinned.n_free_blocks(), pinned.pool().total_capacity) == (0, 0)
    assert pinned.malloc(0).ptr == 0


def test_a_pinned_refusal_is_typed(pinned: FakePinned) -> None:
    """CuPy's out-of-memory error too."""
    pinned.pool().limit = 4 << 20
    with pytest.raises(memory.OutOfMemoryError, match="on pinned"):
        pinned.malloc(1 << 30)
    with pytest.raises(OverflowError):
        pinned.malloc(1 << 70)
    with pytest.raises(ValueError, match="at least 0"):
        pinned.malloc(-1)


def test_the_faces_have_every_method_of_cupys_pools() -> None:
    """All public names of CuPy's classes, so that they can stand in their place."""
    for ours, theirs in ((tc.CupyMemoryPool, memory.MemoryPool), (tc.CupyPinnedMemoryPool, cupy.cuda.PinnedMemoryPool)):
        public = {name for name in dir(theirs) if not name.startswith("_")} - {"device_pool"}
        assert public - {*dir(ours), *ours.__annotations__} == set()
