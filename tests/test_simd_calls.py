"""What the functions of `tensorcore.simd` take and give, their threads and settings, forks and the end of a process."""

from __future__ import annotations

import array
import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simd_helpers import bits, numbers

import tensorcore as tc
from tensorcore import _simd_general, kernels, simd
from tensorcore._lib import native

Array = np.ndarray[Any, np.dtype[Any]]
RunPython = Callable[..., str]

pytestmark = pytest.mark.usefixtures("simd_settings")

# ---- what they take and give ----------------------------------------------------------------------------------------------------


def test_results_are_tensors_in_the_pool_of_the_first_tensor(pool: tc.MemoryPool) -> None:
    a = tc.Tensor((10, 10), pool=pool)
    a.fill(2.0)
    for result in (
        simd.vectorized_add(a, a),
        simd.vectorized_add(np.ones((10, 10)), a),
        simd.vectorized_add(a, np.ones(10)),
        simd.vectorized_fma(a, a, a),
        simd.evaluate("a*a - 1", a=a),
        simd.vectorized_copy(a.T),
    ):
        assert type(result) is tc.Tensor
        assert result.pool is pool
        assert result.shape == (10, 10)
    assert simd.vectorized_add(a.numpy(), 1).pool is tc.get_global_memory_pool()


def test_a_result_takes_one_block_and_nothing_else(pool: tc.MemoryPool) -> None:
    a = tc.Tensor((1000,), pool=pool)
    a.fill(1.0)
    before = pool.allocation_count
    kept = [simd.vectorized_add(a, a), simd.evaluate("a*a + a*a - a", a=a), simd.vectorized_scale(2, a)]
    simd.vectorized_add(a, a, out=kept[0])
    simd.vectorized_sum(a)
    assert pool.allocation_count - before == len(kept)


def test_a_pool_that_has_no_more_says_so(pool: tc.MemoryPool) -> None:
    a = tc.Tensor((1 << 20,), pool=pool)
    pool.limit = pool.total_capacity
    with pytest.raises(tc.OutOfMemoryError):
        [simd.vectorized_add(a, a) for _ in range(64)]


def test_pooled_allocations_are_arrays_like_the_others(pool: tc.MemoryPool) -> None:
    with tc.PooledAllocation(800, pool=pool) as block, tc.PooledAllocation(800, pool=pool) as result:
        block.array("f8")[:] = 3.0
        a = np.arange(100.0)
        assert simd.vectorized_add(a, block, out=result) is result
        assert bits(result.array("f8")) == bits(a + 3)
        assert simd.vectorized_multiply(block, a).pool is pool
        assert simd.vectorized_scale(2, a, out=result) is result
        assert simd.vectorized_axpy(2.0, a, block, out=result) is result
        assert bits(result.array("f8")) == bits(2 * a + 3)
        assert simd.vectorized_add(np.float64(2), a, out=result) is result
        assert simd.evaluate("a*b", a=a, b=block).numpy().tolist() == (a * 3).tolist()
        with pytest.raises(TypeError, match="no dtype of its own"):
            simd.vectorized_add(block, block, out=result)
        with pytest.raises(ValueError, match="does not fit"):
            simd.vectorized_add(np.ones(101), block)


@pytest.mark.parametrize(
    "make", [lambda x: array.array("d", x), lambda x: memoryview(array.array("d", x)), list], ids=["array", "view", "list"]
)
def test_whatever_numpy_makes_an_array_of_is_an_operand(make: Callable[[list[float]], Any]) -> None:
    x = make([1.0, 2.0, 3.0])
    assert simd.vectorized_add(x, x).tolist() == [2.0, 4.0, 6.0]
    assert simd.vectorized_sum(x) == 6.0
    assert simd.vectorized_fma(x, x, x).tolist() == [2.0, 6.0, 12.0]


def test_an_output_may_be_any_memory_that_numpy_can_write_to() -> None:
    out = array.array("d", [0.0] * 3)
    assert simd.vectorized_add([1, 2, 3], 1.5, out=out) is out
    assert out.tolist() == [2.5, 3.5, 4.5]


def read_only() -> Array:
    x = np.ones(3)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (read_only(), ValueError, "read-only"),
        (memoryview(b"12345678" * 3).cast("d"), ValueError, "read-only"),
        ([1.0, 2.0, 3.0], TypeError, "not list"),
        (5.0, TypeError, "not float"),
        (np.float64(5), TypeError, "not float64"),
        (np.ones(4), ValueError, "broadcast|does not fit"),
        (np.ones(3, "i4"), TypeError, "Cannot cast|does not fit"),
    ],
    ids=["an array", "a view of bytes", "a list", "a number", "a scalar", "too long", "integers"],
)
def test_an_output_that_can_not_take_the_result_is_refused(out: Any, error: type[Exception], message: str) -> None:
    x = np.ones(3)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        simd.vectorized_add(x, x, out=out)
    assert isinstance(caught.value, error)
    with pytest.raises((TypeError, ValueError)):
        simd.vectorized_fma(x, x, x, out=out)
    with pytest.raises((TypeError, ValueError)):
        simd.evaluate("x*x + x", x=x, out=out)
    with pytest.raises((TypeError, ValueError)):
        simd.vectorized_copy(x, out=out)


def test_masked_arrays_and_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="mask would be ignored"):
        simd.vectorized_add(np.ma.array([1.0, 2.0], mask=[False, True]), 1)
    with pytest.raises(ValueError, match="broadcast"):
        simd.vectorized_add(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="broadcast"):
        simd.vectorized_fma(np.ones(3), np.ones(4), 1)


@pytest.mark.parametrize("alpha", [np.ones(3), [1.0, 2.0, 3.0], "2", None], ids=["array", "list", "text", "None"])
def test_a_factor_is_one_number(alpha: Any) -> None:
    x = np.ones(3)
    for y in (x, x[::-1]):
        with pytest.raises(TypeError, match="alpha is one number for all elements"):
            simd.vectorized_scale(alpha, y)
        with pytest.raises(TypeError, match="alpha is one number for all elements"):
            simd.vectorized_axpy(alpha, y, y)
    assert simd.vectorized_scale(np.float64(2), x).tolist() == simd.vectorized_scale(np.array(2.0), x).tolist() == [2.0] * 3


def test_numbers_alone_are_computed_in_their_own_type() -> None:
    """And written to an output of another, as by NumPy."""
    for function, ufunc in ((simd.vectorized_add, np.add), (simd.vectorized_divide, np.divide)):
        found, wanted = np.empty(3, "f4"), np.empty(3, "f4")
        function(1.1, 2.3, found)
        ufunc(1.1, 2.3, wanted)
        assert bits(found) == bits(wanted)


@pytest.mark.parametrize(
    "reduce", [simd.vectorized_sum, simd.vectorized_min, simd.vectorized_max, lambda x: simd.vectorized_dot(x, x)]
)
def test_what_has_no_numbers_can_not_be_reduced(reduce: Callable[[Any], Any]) -> None:
    assert reduce(1.0) == 1.0
    for x in (None, object(), np.array([1, 10**30], object)):
        with pytest.raises(TypeError, match="an array of numbers can be reduced, not"):
            reduce(x)


def test_one_operation_needs_hardly_any_stack(run_python: RunPython) -> None:
    """Python's smallest threads have 32 KiB, half of which is gone before a function of C begins."""
    program = """
        import threading
        import tensorcore as tc
        x = tc.ones(1_000_000)
        x + x
        threading.stack_size(32768)
        thread = threading.Thread(target=lambda: print((x + x).sum().item()))
        thread.start()
        thread.join()
    """
    assert run_python(program).strip() == "2000000.0"


@pytest.mark.parametrize("function", [simd.vectorized_sum, simd.vectorized_copy, lambda x: simd.vectorized_add(np.ones(3), x)])
def test_a_tensor_on_a_fake_device_is_refused(function: Callable[[Any], Any]) -> None:
    with (
        tc.MemoryPool(device="cuda", upstream="fake") as pool,
        pytest.raises(tc.DeviceUnavailableError, match="a fake device holds no data"),
    ):
        function(tc.Tensor((3,), pool=pool))


@pytest.mark.filterwarnings("error")
def test_floating_point_errors_are_silent_on_every_way() -> None:
    a = np.array([1.0, 0.0, 1e308])
    for x in (a, np.repeat(a, 2)[::2]):
        assert np.isinf(simd.vectorized_divide(x, 0.0).numpy()).any()
        assert np.isinf(simd.vectorized_multiply(x, 1e308).numpy()).any()
        assert np.isinf(simd.evaluate("x/0.0", x=x).numpy()).any()


def test_without_numpys_known_layout_the_general_way_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way off, every function computes the same bits."""
    a, b = numbers("float64", 1000, 1), numbers("float64", 1000, 2)
    a, b = np.nan_to_num(a, posinf=1, neginf=1), np.nan_to_num(b, posinf=1, neginf=1)
    calls: list[Callable[[], Any]] = [
        lambda: simd.vectorized_fma(a, b, a),
        lambda: simd.vectorized_axpy(2.0, a, b),
        lambda: simd.vectorized_scale(2.0, a),
        lambda: simd.vectorized_copy(a),
        lambda: simd.vectorized_fill(np.empty(5), 2.0),
        lambda: simd.evaluate("a*b + 2*a", a=a, b=b),
        lambda: simd.vectorized_sum(a),
        lambda: simd.vectorized_dot(a, b),
        lambda: simd.vectorized_max(a),
    ]
    quick = [bits(call()) for call in calls]
    monkeypatch.setattr(simd, "_call", lambda *_: None)
    monkeypatch.setattr(simd, "_reduce", lambda *_: None)
    assert [bits(call()) for call in calls] == quick


def test_every_public_function_has_a_general_way_and_one_on_a_gpu() -> None:
    """So that what is dispatched by device has the same names and arguments in both modules."""
    for name in simd.__all__:
        if name.startswith("vectorized_") or name == "evaluate":
            expected = list(inspect.signature(getattr(simd, name)).parameters.values())
            for module in (_simd_general, kernels):
                found = list(inspect.signature(getattr(module, name)).parameters.values())
                assert [(x.name, x.kind, x.default) for x in found] == [(x.name, x.kind, x.default) for x in expected]


def test_the_quick_way_checks_its_own_arguments() -> None:
    with pytest.raises(TypeError, match="simd_call takes 4 arguments"):
        native.simd_call(tc.Tensor, None, b"")  # type: ignore[call-arg, unused-ignore]
    with pytest.raises(TypeError, match="simd_reduce takes 3 arguments"):
        native.simd_reduce(0, np.ones(3))  # type: ignore[call-arg]
    assert native.simd_call(tc.Tensor, None, b"", np.ones(3)) is None
    with pytest.raises(TypeError, match="expected bytes, str found"):
        native.simd_call(tc.Tensor, None, "no bytes", np.ones(3))  # type: ignore[arg-type]


# ---- threads and settings -------------------------------------------------------------------------------------------------------


def test_large_arrays_are_right_on_any_number_of_threads_and_from_several_callers() -> None:
    a, b = numbers("float64", 1_200_003, 1, 3), numbers("float64", 1_200_003, 2, 5)
    with np.errstate(all="ignore"):
        expected = bits(a + b)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(1 for _ in range(5) if bits(simd.vectorized_add(a, b)) != expected)

    for count in (1, 2, 5):
        simd.set_num_threads(count)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_the_number_of_threads_can_be_set_and_is_checked() -> None:
    old = simd.get_num_threads()
    assert simd.set_num_threads(3) == old
    assert simd.get_num_threads() == 3
    for wrong in (0, -1, 65, 2**70):
        with pytest.raises(ValueError, match=f"1 to 64 threads can share the work, not {wrong}"):
            simd.set_num_threads(wrong)
    with pytest.raises(TypeError):
        simd.set_num_threads(2.5)  # type: ignore[arg-type]
    assert simd.get_num_threads() == 3


def test_an_instruction_set_can_be_chosen_and_is_checked() -> None:
    widest = simd.get_instruction_set()
    assert widest == simd.available_instruction_sets()[0]
    for name in reversed(simd.available_instruction_sets()):
        simd.set_instruction_set(name)
        assert simd.get_instruction_set() == name
    with pytest.raises(ValueError, match=r"this CPU has .*, not 'mmx'"):
        simd.set_instruction_set("mmx")
    wrong: Any
    for wrong in (None, f"{widest}\0 and more"):
        with pytest.raises(ValueError, match="this CPU has"):
            simd.set_instruction_set(wrong)


def test_the_environment_chooses_at_the_start(run_python: RunPython, monkeypatch: pytest.MonkeyPatch) -> None:
    last = simd.available_instruction_sets()[-1]
    monkeypatch.setenv("TENSORCORE_SIMD", last)
    monkeypatch.setenv("TENSORCORE_SIMD_THREADS", "3")
    program = "from tensorcore import simd; print(simd.get_instruction_set(), simd.get_num_threads())"
    assert run_python(program).split() == [last, "3"]


def test_an_environment_that_makes_no_sense_is_warned_of(run_python: RunPython, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORCORE_SIMD", "mmx")
    monkeypatch.setenv("TENSORCORE_SIMD_THREADS", "many")
    program = """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            from tensorcore import simd
        print([(w.category.__name__, "left aside" in str(w.message)) for w in caught], simd.get_num_threads() > 0)
    """
    assert run_python(program).strip() == "[('TensorCoreWarning', True), ('TensorCoreWarning', True)] True"


def test_a_forked_child_and_the_end_of_a_process_are_clean(run_python: RunPython) -> None:
    """The child starts threads of its own; neither hangs, and both end with nothing to say."""
    program = """
        import os
        import numpy as np
        from tensorcore import simd
        simd.set_num_threads(4)
        a = np.ones(2_000_000)
        assert simd.vectorized_add(a, a).numpy().sum() == 4e6
        child = os.fork()
        if child == 0:
            assert simd.vectorized_add(a, a).numpy().sum() == 4e6
            raise SystemExit(0)
        print(os.waitpid(child, 0)[1])
    """
    assert run_python(program).strip() == "0"
