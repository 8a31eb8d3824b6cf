"""TensorCore's pools under CuPy, on fake devices: installed and taken away, scopes, threads, CuPy's memory hooks."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc
from tensorcore import _cupy_hook

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x")

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import FakeGpus, FakePinned

UNIT = 512


# ---- under CuPy ------------------------------------------------------------------------------------------------------------------


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


def test_a_scope_of_cupy_goes_before_what_is_installed(installed: FakeGpus, pinned: FakePinned) -> None:
    """`using_allocator` holds for its thread and block; installing inside it is refused, as CuPy refuses it."""
    with tc.MemoryPool(device="cuda", upstream="fake") as other:
        scoped = type(installed)(other)
        with cupy.cuda.using_allocator(scoped.malloc):
            arrays: list[Any] = [cupy.empty(1000)]
            thread = threading.Thread(target=lambda: arrays.append(cupy.empty(1000)))
            thread.start()
            thread.join()
            with pytest.raises(ValueError, match="using_allocator"):
                _cupy_hook.put_in(_cupy_hook.Faces(scoped, pinned))
        arrays.append(cupy.empty(1000))
        assert (scoped.used_bytes(), installed.used_bytes()) == (8192, 2 * 8192)
        arrays.clear()


def test_installing_again_replaces_the_pools_and_remembers_cupys(installed: FakeGpus, pinned: FakePinned) -> None:
    """The fixture checks that CuPy gets back what it had at first."""
    with tc.MemoryPool(device="cuda", upstream="fake") as other:
        second = type(installed)(other)
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
    run_python("""
        import cupy
        import tensorcore as tc
        class Face(tc.CupyMemoryPool):
            def _current_stream_function(self):
                return int
            def _current_device(self):
                return 0
            def _make_malloc(self):
                memory, port = cupy.cuda.memory, self._port
                make = memory.CFunctionAllocatorMemory
                return lambda n: memory.MemoryPointer(make(n, port.param, port.malloc, port.free, 0), 0)
        face = Face([tc.MemoryPool(device="cuda", upstream="fake")])
        cupy.cuda.set_allocator(face.malloc)
        kept = cupy.empty(1000)
        with cupy.cuda.MemoryHook():
            more = cupy.empty(1000)
        assert face.used_bytes() > 0
    """)


@pytest.mark.usefixtures("installed")
def test_cupys_pinned_allocations_come_from_the_pool(pinned: FakePinned) -> None:
    """Through `cupy.cuda.alloc_pinned_memory`; the default pinned pool is the face."""
    pointer = cupy.cuda.alloc_pinned_memory(3000)
    assert pinned.pool().total_allocated == 3072
    assert cupy.get_default_pinned_memory_pool() is pinned
    del pointer
    assert pinned.pool().total_allocated == 0


# ---- memory hooks ----------------------------------------------------------------------------------------------------------------


class Recorder(cupy.cuda.MemoryHook):  # type: ignore[misc, name-defined] # CuPy is untyped
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
        again = face.malloc(1000)
    assert again.ptr == address
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

    class Raises(cupy.cuda.MemoryHook):  # type: ignore[misc, name-defined]
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
