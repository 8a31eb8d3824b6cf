"""The faces of CuPy's pools over fake devices: what CuPy's own tests ask of its pools, asked of ours, without a GPU.

CuPy's wheel works without a driver as far as memory objects, pointers, arrays without elements and allocators go. Two calls do not,
and are replaced here: the current device, and the current stream.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc
from tensorcore import _cupy_hook

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x")
memory = cupy.cuda.memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNIT = 512
LARGE = 3 << 20  # bytes: above what small blocks' segments serve
STREAM, OTHER_STREAM = 16, 32  # handles


class FakeGpus(tc.CupyMemoryPool):
    """The face of pools on fake devices; `device` is the current one, streams are those of each fake."""

    def __init__(self, *pools: tc.MemoryPool) -> None:
        self.device = 0
        super().__init__(pools)

    def _current_device(self) -> int:
        return self.device

    def _current_stream_function(self) -> Callable[[], int]:
        return lambda: self.pool().upstream.current_stream()

    def _make_malloc(self) -> Callable[[int], Any]:
        """Do what CuPy's CFunctionAllocator.malloc does, with this device as the current one."""
        port = self._port

        def malloc(nbytes: int) -> Any:
            owned = memory.CFunctionAllocatorMemory(nbytes, port.param, port.malloc, port.free, self.device)
            return memory.MemoryPointer(owned, 0)

        return malloc


class FakePinned(tc.CupyPinnedMemoryPool):
    def _current_device(self) -> int:
        return 0


@pytest.fixture
def fake() -> tc.FakeDeviceUpstream:
    return tc.FakeDeviceUpstream()


@pytest.fixture
def device_pool(fake: tc.FakeDeviceUpstream) -> Iterator[tc.MemoryPool]:
    with tc.MemoryPool(device="cuda", upstream=fake) as pool:
        yield pool
        if not pool.closed:
            pool.check()
        assert (fake.counts.early, fake.counts.errors) == (0, 0)


@pytest.fixture
def face(device_pool: tc.MemoryPool) -> FakeGpus:
    return FakeGpus(device_pool)


@pytest.fixture
def pinned() -> Iterator[FakePinned]:
    with tc.MemoryPool(device="pinned", upstream="fake") as pool:
        yield FakePinned([pool])
        pool.check()


@pytest.fixture
def installed(face: FakeGpus, pinned: FakePinned) -> Iterator[FakeGpus]:
    """The faces under CuPy, and CuPy as it was afterwards."""
    before = (cupy.cuda.get_allocator(), cupy.get_default_memory_pool(), cupy.get_default_pinned_memory_pool())
    _cupy_hook.put_in(_cupy_hook.Faces(face, pinned))
    yield face
    tc.uninstall()
    assert (cupy.cuda.get_allocator(), cupy.get_default_memory_pool(), cupy.get_default_pinned_memory_pool()) == before


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


# ---- limits and errors ------------------------------------------------------------------------------------------------------------


def test_a_refusal_is_tensorcores_and_cupys_out_of_memory_error(face: FakeGpus) -> None:
    """A MemoryError too; it carries the figures, and the pool goes on."""
    face.set_limit(8 << 20)
    kept = face.malloc(4 << 20)
    with pytest.raises(memory.OutOfMemoryError, match="6.00 MiB") as caught:
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
    device_pool.on_out_of_memory(lambda pool, nbytes: kept.clear())
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
            face.set_limit(**arguments)  # type: ignore[arg-type]
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
        FakeGpus(pool)
    with pytest.raises(ValueError, match="second pool of its device"):
        FakeGpus(device_pool, device_pool)
    with pytest.raises(tc.DeviceMismatchError, match="not of a device 'pinned'"):
        FakePinned([device_pool])


# ---- figures and giving back ------------------------------------------------------------------------------------------------------


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
        both = FakeGpus(device_pool, second)
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


# ---- memory hooks ------------------------------------------------------------------------------------------------------------------


class Recorder(cupy.cuda.MemoryHook):  # type: ignore[misc] # CuPy is untyped
    """Writes down each call of a hook."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, int]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.endswith("process"):
            return lambda **details: self.calls.append((name, details))
        return super().__getattribute__(name)

    def names(self) -> list[str]:
        """Return the hooks called, in order."""
        return [name for name, _ in self.calls]


def test_cupys_memory_hooks_are_called_as_by_its_own_pool(face: FakeGpus) -> None:
    """A miss calls those of new device memory too; sizes are rounded to 512; the free names the same block as the malloc."""
    with Recorder() as hook:
        pointer = face.malloc(1000)
        address = pointer.ptr
        del pointer
        pointer = face.malloc(1000)
    around = ["malloc_preprocess", "malloc_postprocess"]
    miss = [around[0], "alloc_preprocess", "alloc_postprocess", around[1]]
    assert hook.names() == [*miss, "free_preprocess", "free_postprocess", *around]
    details = dict(hook.calls)
    assert details["malloc_preprocess"] == {"device_id": 0, "size": 1000, "mem_size": 1024}
    assert details["malloc_postprocess"] == {**details["malloc_preprocess"], "mem_ptr": address, "pmem_id": address}
    assert details["alloc_preprocess"] == {"device_id": 0, "mem_size": face.total_bytes()}
    assert details["free_preprocess"] == {"device_id": 0, "mem_size": 1024, "mem_ptr": address, "pmem_id": address}
    assert details["free_postprocess"] == details["free_preprocess"]


def test_hooks_belong_to_their_thread_and_their_block(face: FakeGpus) -> None:
    """Another thread's allocations, and later ones, do not call them; a block from before is freed under them."""
    before = face.malloc(UNIT)
    with Recorder() as hook:
        thread = threading.Thread(target=face.malloc, args=(UNIT,))
        thread.start()
        thread.join()
        assert hook.names() == []
        del before
        assert hook.names() == ["free_preprocess", "free_postprocess"]
    pointer = face.malloc(UNIT)
    del pointer
    assert len(hook.calls) == 2


def test_hooks_hear_of_a_refusal(face: FakeGpus) -> None:
    """With the address 0, and the error is raised."""
    face.set_limit(4 << 20)
    with Recorder() as hook, pytest.raises(tc.OutOfMemoryError):
        face.malloc(1 << 30)
    name, details = hook.calls[-1]
    assert (name, details["mem_ptr"], details["pmem_id"]) == ("malloc_postprocess", 0, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hook_that_raises_at_a_free_does_not_keep_the_block(face: FakeGpus) -> None:
    """Nobody can catch it there: it goes to sys.unraisablehook, and the block goes back."""

    class Raises(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "raises"

        def free_preprocess(self, **details: int) -> None:
            raise RuntimeError(f"{details}")

    pointer = face.malloc(UNIT)
    with Raises():
        del pointer
    assert face.used_bytes() == 0


def test_an_exception_on_its_way_survives_the_free_of_a_block(face: FakeGpus) -> None:
    """A frame that is left by an error frees its blocks, hooks or not."""

    def fails() -> None:
        pointer = face.malloc(UNIT)
        raise KeyError(pointer.ptr != 0)

    with pytest.raises(KeyError):
        fails()
    with Recorder(), pytest.raises(KeyError):
        fails()
    gc.collect()
    assert face.used_bytes() == 0


# ---- under CuPy --------------------------------------------------------------------------------------------------------------------


def test_installed_every_cupy_array_lies_in_a_block(installed: FakeGpus) -> None:
    """`cupy.get_default_memory_pool()` is the face; views keep the block."""
    array = cupy.empty((100, 100))
    assert 80_000 <= installed.used_bytes() <= 81_920
    assert cupy.get_default_memory_pool() is installed
    row = array[3]
    del array
    assert 80_000 <= installed.used_bytes() <= 81_920
    del row
    assert installed.used_bytes() == 0


def test_uninstalled_arrays_stay_valid_and_go_back(face: FakeGpus, pinned: FakePinned) -> None:
    """CuPy's own allocator serves new ones; without install, uninstall does nothing."""
    tc.uninstall()
    before = cupy.cuda.get_allocator()
    _cupy_hook.put_in(_cupy_hook.Faces(face, pinned))
    array = cupy.empty(1000)
    tc.uninstall()
    assert cupy.cuda.get_allocator() == before
    assert face.used_bytes() == 8192
    del array
    assert face.used_bytes() == 0


def test_an_installed_pool_can_not_be_closed(installed: FakeGpus, device_pool: tc.MemoryPool) -> None:
    """Arrays may be made from it at any time."""
    with pytest.raises(ValueError, match="installed under CuPy"):
        device_pool.close()
    assert cupy.empty(10).data.ptr != 0
    assert installed.pools == (device_pool,)


def test_a_scope_of_cupy_goes_before_what_is_installed(installed: FakeGpus) -> None:
    """`using_allocator` holds for its thread and block; installing inside it is refused, as CuPy refuses it."""
    with tc.MemoryPool(device="cuda", upstream="fake") as other:
        scoped = FakeGpus(other)
        with cupy.cuda.using_allocator(scoped.malloc):
            inside = cupy.empty(1000)
            elsewhere: list[Any] = []
            thread = threading.Thread(target=lambda: elsewhere.append(cupy.empty(1000)))
            thread.start()
            thread.join()
            with pytest.raises(ValueError, match="using_allocator"):
                _cupy_hook.put_in(_cupy_hook.Faces(scoped, FakePinned()))
        outside = cupy.empty(1000)
        assert (scoped.used_bytes(), installed.used_bytes()) == (8192, 2 * 8192)
        del inside, outside, elsewhere


def test_installing_again_replaces_the_pools_and_remembers_cupys(installed: FakeGpus, pinned: FakePinned) -> None:
    """The fixture checks that CuPy gets back what it had at first."""
    with tc.MemoryPool(device="cuda", upstream="fake") as other:
        second = FakeGpus(other)
        _cupy_hook.put_in(_cupy_hook.Faces(second, pinned))
        array = cupy.empty(1000)
        assert (installed.used_bytes(), second.used_bytes()) == (0, 8192)
        del array
        _cupy_hook.put_in(_cupy_hook.Faces(installed, pinned))


def test_a_with_block_puts_back_what_was_installed(installed: FakeGpus) -> None:
    """`tc.installed` without a GPU leaves CuPy as it is, and does so afterwards too."""
    with tc.installed():
        assert cupy.get_default_memory_pool() is installed
    assert cupy.get_default_memory_pool() is installed


def test_threads_allocate_and_free_at_once(installed: FakeGpus, fake: tc.FakeDeviceUpstream) -> None:
    """Each on a stream of its own; arrays are handed from one to the other."""
    handed: list[Any] = []

    def work(stream: int) -> None:
        with fake.using_stream(stream):
            kept = []
            for i in range(300):
                kept.append(cupy.empty(1 + (i * 37) % 5000, "u1"))
                handed.append(kept[-1])
                if i % 3 == 0:
                    del kept[0]
                    handed.pop(0)

    threads = [threading.Thread(target=work, args=(16 * (i + 1),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handed.clear()
    gc.collect()
    assert installed.used_bytes() == 0
    assert fake.counts.early == 0


def test_cupy_is_waited_for_and_not_imported(run_python: Callable[..., str]) -> None:
    """`install` costs no import of CuPy; without a GPU CuPy is then left alone."""
    output = run_python("""
        import sys
        import tensorcore as tc
        from tensorcore._cupy_hook import cupy_state
        tc.install()
        print("cupy" in sys.modules, cupy_state().waiting)
        import cupy
        print(cupy_state())
        tc.uninstall()
    """)
    if tc.is_available("cuda"):
        pytest.skip("there is a GPU: CuPy is pooled here")
    assert output == "False ()\nState(faces=None, waiting=None)\n"


def test_uninstall_waits_for_cupy_no_longer(run_python: Callable[..., str]) -> None:
    """Nor does the end of a with-block; an outer install goes on waiting."""
    output = run_python("""
        import sys
        import tensorcore as tc
        from tensorcore._cupy_hook import cupy_state
        with tc.installed():
            print(cupy_state().waiting)
        print(cupy_state().waiting, len([finder for finder in sys.meta_path if "Waiter" in repr(finder)]))
        tc.install()
        with tc.installed():
            pass
        print(cupy_state().waiting)
        tc.uninstall()
        print(cupy_state().waiting, len([finder for finder in sys.meta_path if "Waiter" in repr(finder)]))
    """)
    assert output == "()\nNone 0\n()\nNone 0\n"


def test_blocks_that_outlive_everything_end_silently(run_python: Callable[..., str]) -> None:
    """Arrays that are alive at the end of the process, in a module's globals, with hooks used before."""
    run_python(f"""
        import sys
        sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
        import cupy
        import tensorcore as tc
        from test_cupy_pools import FakeGpus, Recorder
        face = FakeGpus(tc.MemoryPool(device="cuda", upstream="fake"))
        cupy.cuda.set_allocator(face.malloc)
        kept = cupy.empty(1000)
        with Recorder():
            more = cupy.empty(1000)
    """)


# ---- pinned: CuPy's test_pinned_memory ---------------------------------------------------------------------------------------------


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


def test_cupys_pinned_allocations_come_from_the_pool(installed: FakeGpus, pinned: FakePinned) -> None:
    """Through `cupy.cuda.alloc_pinned_memory`; the default pinned pool is the face."""
    assert installed
    pointer = cupy.cuda.alloc_pinned_memory(3000)
    assert pinned.pool().total_allocated == 3072
    assert cupy.get_default_pinned_memory_pool() is pinned
    del pointer
    assert pinned.pool().total_allocated == 0


def test_the_faces_have_every_method_of_cupys_pools() -> None:
    """All public names of CuPy's classes, so that they can stand in their place."""
    with warnings.catch_warnings(), contextlib.suppress(AttributeError):
        for ours, theirs in ((tc.CupyMemoryPool, memory.MemoryPool), (tc.CupyPinnedMemoryPool, cupy.cuda.PinnedMemoryPool)):
            public = {name for name in dir(theirs) if not name.startswith("_")} - {"device_pool"}
            assert public - {*dir(ours), *ours.__annotations__} == set()
