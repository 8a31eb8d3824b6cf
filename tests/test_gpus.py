"""The cards' figures: reconciled with the pools, adding up exactly, and partial with a reason whatever the driver refuses.

Read through nvidia-ml-py from a made-up libnvidia-ml.so.1 (tests/fakes/nvml.c), in a process of its own for each test; those
marked gpu read the real one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorcore as tc
from tensorcore._gpus import _account
from tensorcore._nvml import Card, read_cards

FAKES = Path(__file__).parent / "fakes"
GIB = 1 << 30
TOTAL = 80 * GIB
PARTS = ("pools", "other_pools", "context", "other_processes", "driver", "free", "unknown")

PREAMBLE = """
import json, os, sys
import tensorcore as tc

class Cuda(tc.Backend):
    kind = "cuda"
    def why_unavailable(self): return None
    def device_count(self): return 8
    def memory(self, index): return 80 << 30
    def upstream(self, index): return tc.FakeUpstream(None)
    def array_maker(self, upstream, *, zeroed=False): return None

tc.register_backend(Cuda())
def read(**settings):
    for name in [name for name in os.environ if name.startswith("FAKE_")]:
        del os.environ[name]
    os.environ.update({"FAKE_" + name.upper(): str(value) for name, value in settings.items()})
    statistics = tc.statistics()
    str(statistics)
    return statistics.as_dict()
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the made-up driver libraries, compiled now."""
    command = shlex.split(os.environ.get("CC", "")) or [next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")]
    if not command[0]:
        pytest.skip("no C compiler: tried cc, gcc and clang; CC may name another")
    if sys.platform != "linux":
        pytest.skip("the driver's library has this name on Linux alone")
    folder = tmp_path_factory.mktemp("driver")
    for source, library in (("nvml.c", "libnvidia-ml.so.1"), ("cuda.c", "libcuda.so.1")):
        options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(folder / library)]
        subprocess.run([*command, *options, str(FAKES / source)], check=True)
    return folder


def run(folder: Path | None, program: str, **environment: str) -> Any:
    """Run a program after the preamble and return what it prints, from JSON; `folder` None: no driver library."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")}
    inherited["LD_LIBRARY_PATH"] = str(folder) if folder else ""
    command = [sys.executable, "-c", PREAMBLE + program]
    result = subprocess.run(command, env=inherited | environment, text=True, capture_output=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def memory_of(gpu: dict[str, Any]) -> dict[str, Any]:
    """Return a card's memory after proving that its parts sum up to the total."""
    memory: dict[str, Any] = gpu["memory"]
    assert sum(memory[part] or 0 for part in PARTS) == memory["total"]
    assert all(memory[part] is None or memory[part] >= 0 for part in PARTS)
    return memory


def gib(memory: dict[str, Any]) -> list[float | None]:
    """Return the parts in GiB."""
    return [memory[part] if memory[part] is None else memory[part] / GIB for part in PARTS]


# ---- cards -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_card_is_listed_with_its_memory_load_and_health(libraries: Path, count: int) -> None:
    read = run(libraries, f"print(json.dumps(read(cards={count}, processes='7:4,8:2')))")
    assert read["gpu_reasons"] == []
    assert [gpu["device"] for gpu in read["gpus"]] == [f"cuda:{index}" for index in range(count)]
    for index, gpu in enumerate(read["gpus"]):
        assert gib(memory_of(gpu)) == [0, 0, 0, 6, 1, 73, 0]
        assert (gpu["index"], gpu["name"], gpu["mig"], gpu["reasons"]) == (index, "Made-up 100", False, [])
        assert (gpu["utilization"], gpu["temperature"]) == (0.25, 40 + index)
        healthy = [False, None, None] if index == 1 else [True, 5, 0]
        assert [gpu["ecc_enabled"], gpu["ecc_corrected"], gpu["ecc_uncorrected"]] == healthy


def test_this_process_is_divided_into_pools_and_the_rest(libraries: Path) -> None:
    """Two pools on one card, one on another; closing one moves its bytes to the context as long as the driver counts them."""
    program = """
a, b, c = (tc.MemoryPool(1 << 30, device=device, name=device) for device in ("cuda:0", "cuda:0", "cuda:1"))
before = read(cards=2, processes="self:5,7:4")
a.close()
print(json.dumps([before, read(cards=2, processes="self:5,7:4")]))
"""
    before, after = run(libraries, program)
    assert [pool["device"] for pool in before["pools"]] == ["cuda:0", "cuda:0", "cuda:1"]
    assert [gib(memory_of(gpu)) for gpu in before["gpus"]] == [[2, 0, 3, 4, 1, 70, 0], [1, 0, 4, 4, 1, 70, 0]]
    assert [gib(memory_of(gpu)) for gpu in after["gpus"]] == [[1, 0, 4, 4, 1, 70, 0], [1, 0, 4, 4, 1, 70, 0]]


def test_memory_that_no_process_is_told_to_hold_is_unknown(libraries: Path) -> None:
    (gpu,) = run(libraries, "print(json.dumps(read(cards=1, processes='7:4', used=6)))")["gpus"]
    assert gib(memory_of(gpu)) == [0, 0, 0, 4, 1, 73, 2]


def test_bytes_that_contradict_each_other_are_cut_and_named(libraries: Path) -> None:
    """Processes of 90 GiB on a card of 80; a pool that holds more than the driver counts for its process."""
    program = """
pool = tc.MemoryPool(3 << 30, device="cuda:0")
print(json.dumps([read(cards=1, processes="self:5,7:90", used=9), read(cards=1, processes="self:2,7:4")]))
"""
    many, small = (read["gpus"][0] for read in run(libraries, program))
    assert gib(memory_of(many)) == [3, 0, 0, 6, 1, 70, 0]
    assert "other processes: 96,636,764,160 bytes told where 6,442,450,944 were left" in many["reasons"][0]
    assert gib(memory_of(small)) == [2, 0, 0, 4, 1, 73, 0]
    assert "pools: they hold 3,221,225,472 bytes, the driver counts 2,147,483,648" in small["reasons"][0]


@given(
    total=st.integers(0, TOTAL),
    parts=st.tuples(*[st.none() | st.integers(0, 2 * TOTAL)] * 3),
    ours=st.integers(0, 2 * TOTAL),
    processes=st.none() | st.dictionaries(st.sampled_from([1, 2, os.getpid()]), st.none() | st.integers(0, 2 * TOTAL)),
    in_use=st.booleans(),
)
def test_the_parts_add_up_whatever_the_driver_says(
    total: int, parts: tuple[int | None, int | None, int | None], ours: int, processes: dict[int, int | None] | None, in_use: bool
) -> None:
    """Any readings, possible or not."""
    free, driver, other_pools = parts
    card = Card(0, total=total, free=free, driver=driver, processes=processes)
    memory = _account(card, ours, other_pools, in_use, [])
    told = [getattr(memory, part) for part in PARTS]
    assert sum(nbytes or 0 for nbytes in told) == total == memory.total
    assert all(nbytes is None or nbytes >= 0 for nbytes in told)
    assert memory.unknown is not None


# ---- what the driver refuses -----------------------------------------------------------------------------------------------------

NO_PERMISSION, NOT_SUPPORTED, FUNCTION_NOT_FOUND, LOST, UNKNOWN = 4, 3, 13, 15, 999
REFUSED = {  # by function: what is then None, and the start of the reason
    "nvmlDeviceGetName": (("name",), "name: "),
    "nvmlDeviceGetUUID": (("uuid",), "UUID: "),
    "nvmlDeviceGetUtilizationRates": (("utilization",), "utilization: "),
    "nvmlDeviceGetTemperature": (("temperature",), "temperature: "),
    "nvmlDeviceGetEccMode": (("ecc_enabled", "ecc_corrected", "ecc_uncorrected"), "ECC: "),
    "nvmlDeviceGetTotalEccErrors": (("ecc_corrected", "ecc_uncorrected"), "corrected ECC errors: "),
    "nvmlDeviceGetComputeRunningProcesses_v3": ((), "processes: "),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": ((), "processes that draw: "),
    "nvmlDeviceGetMigMode": ((), None),
    "nvmlDeviceGetMemoryInfo_v2": ((), "memory of the driver: "),
}


def test_one_call_that_fails_takes_its_own_figures_and_gives_a_reason(libraries: Path) -> None:
    """Each call in turn, with each of five codes."""
    cases = [(function, code) for function in REFUSED for code in (NO_PERMISSION, NOT_SUPPORTED, FUNCTION_NOT_FOUND, LOST, UNKNOWN)]
    program = f"print(json.dumps([read(cards=1, processes='7:4', fail=f'{{f}}={{c}}') for f, c in {cases!r}]))"
    complete = {"name", "uuid", "utilization", "temperature", "ecc_enabled", "ecc_corrected", "ecc_uncorrected", "memory"}
    for (function, _), read in zip(cases, run(libraries, program), strict=True):
        (gpu,) = read["gpus"]
        missing, reason = REFUSED[function]
        assert {name for name in complete if gpu[name] is None} == set(missing)
        assert (reason is None and not gpu["reasons"]) or gpu["reasons"][0].startswith(reason or "-")
        memory = memory_of(gpu)
        unlisted = function == "nvmlDeviceGetComputeRunningProcesses_v3"
        undivided = function == "nvmlDeviceGetMemoryInfo_v2"
        assert gib(memory) == [0, 0, *([None, None] if unlisted else [0, 4]), *([None, 75] if undivided else [1, 75]),
                               (4 if unlisted else 0) + undivided]  # fmt: skip


def test_without_memory_figures_the_rest_is_there(libraries: Path) -> None:
    fail = "nvmlDeviceGetMemoryInfo=4,nvmlDeviceGetMemoryInfo_v2=4"
    (gpu,) = run(libraries, f"print(json.dumps(read(cards=1, fail={fail!r})))")["gpus"]
    assert (gpu["memory"], gpu["temperature"], gpu["reasons"]) == (None, 40, ["memory: Insufficient Permissions"])


def test_a_driver_that_permits_nothing_leaves_a_card_of_reasons(libraries: Path) -> None:
    (gpu,) = run(libraries, f"print(json.dumps(read(cards=1, fail='every={NO_PERMISSION}')))")["gpus"]
    assert {name for name, value in gpu.items() if value is not None} == {"device", "index", "mig", "reasons"}
    assert all(reason.endswith(": Insufficient Permissions") for reason in gpu["reasons"])
    assert len(gpu["reasons"]) == 7


def test_a_lost_card_is_listed_with_its_reason(libraries: Path) -> None:
    read = run(libraries, f"print(json.dumps(read(cards=2, fail='nvmlDeviceGetHandleByIndex_v2={LOST}')))")
    assert [gpu["reasons"] for gpu in read["gpus"]] == [["card 0: GPU is lost"], ["card 1: GPU is lost"]]


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        ("nvmlInitWithFlags=9", "the NVIDIA driver is installed but not running"),
        ("nvmlInitWithFlags=18", "NVML does not start: RM has detected"),
        ("nvmlDeviceGetCount_v2=4", "NVML does not start: Insufficient Permissions"),
        ("none=0", "the driver lists no card"),
    ],
)
def test_a_driver_that_does_not_start_is_a_reason(libraries: Path, fail: str, reason: str) -> None:
    """And is asked again the next time."""
    read, later = run(libraries, f"print(json.dumps([read(fail={fail!r}), read(cards=1)]))")
    assert (read["gpus"], len(read["gpu_reasons"])) == ([], 1)
    assert reason in read["gpu_reasons"][0]
    assert len(later["gpus"]) == 1


def test_a_machine_without_driver_or_package_says_what_to_install() -> None:
    """The rest of the statistics is there."""
    program = """
first = read()
sys.modules["pynvml"] = None
print(json.dumps([first, read()]))
"""
    no_driver, no_package = run(None, program)
    if no_driver["gpus"]:
        pytest.skip("this machine has a driver")
    assert "install the NVIDIA driver" in no_driver["gpu_reasons"][0]
    assert "pip install nvidia-ml-py" in no_package["gpu_reasons"][0]
    assert no_package["host"]["rss_bytes"] > 0


def test_a_package_that_fails_to_import_is_a_reason(libraries: Path, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('broken')")
    read = run(libraries, f"sys.path.insert(0, {str(tmp_path)!r})\nprint(json.dumps(read(cards=1)))")
    assert read["gpu_reasons"] == ["no figures of GPUs: importing nvidia-ml-py failed: broken"]


def test_nvml_is_started_again_after_a_shutdown_by_others_and_in_a_forked_child(libraries: Path) -> None:
    program = """
read(cards=1)
import pynvml
pynvml.nvmlShutdown()
again = len(read(cards=1)["gpus"])
child = os.fork()
if child == 0:
    os._exit(40 + len(read(cards=2)["gpus"]))
print(json.dumps([again, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
"""
    assert run(libraries, program) == [1, 42]


def test_nothing_of_the_driver_is_loaded_before_the_cards_are_asked_for(libraries: Path) -> None:
    program = """
pool = tc.MemoryPool(name="p")
pool.deallocate(pool.allocate(100))
statistics = tc.statistics(machine=False)
loaded = ["pynvml" in sys.modules, "libnvidia-ml" in open("/proc/self/maps").read(), "libcuda" in open("/proc/self/maps").read()]
print(json.dumps([loaded, statistics.as_dict()]))
"""
    loaded, statistics = run(libraries, program)
    assert loaded == [False, False, False]
    assert (statistics["host"], statistics["gpus"], statistics["gpu_reasons"]) == (None, [], [])
    assert [pool["name"] for pool in statistics["pools"]] == ["p"]


# ---- MIG -------------------------------------------------------------------------------------------------------------------------


def test_instances_of_a_divided_card_stand_for_it(libraries: Path) -> None:
    """Memory is the instance's, temperature and ECC the card's; utilization isn't offered."""
    read = run(libraries, "print(json.dumps(read(cards=2, mig=2, processes='7:4')))")
    assert [(gpu["index"], gpu["mig"], gpu["uuid"][:4], gpu["device"]) for gpu in read["gpus"]] == [
        (0, True, "MIG-", None), (0, True, "MIG-", None), (1, True, "MIG-", None), (1, True, "MIG-", None)
    ]  # fmt: skip
    assert len({gpu["uuid"] for gpu in read["gpus"]}) == 4
    for gpu in read["gpus"]:
        assert gib(memory_of(gpu)) == [0, 0, 0, 4, 1, 5, 0]
        assert gpu["temperature"] == 40 + gpu["index"]
        assert gpu["reasons"] == ["utilization: Not Supported"]


@pytest.mark.parametrize("fail", ["nvmlDeviceGetMaxMigDeviceCount=4", "nvmlDeviceGetMigDeviceHandleByIndex=4"])
def test_a_divided_card_without_permission_shows_the_whole_card(libraries: Path, fail: str) -> None:
    (gpu,) = run(libraries, f"print(json.dumps(read(cards=1, mig=2, fail={fail!r})))")["gpus"]
    assert (gpu["mig"], memory_of(gpu)["total"]) == (False, TOTAL)
    assert "Insufficient Permissions" in gpu["reasons"][0]
    assert "no instance can be reached" in gpu["reasons"][-1]


def test_an_instance_is_found_by_the_name_that_the_process_was_given(libraries: Path) -> None:
    visible = "MIG-00000001-0000-0000-0000-000000000002"
    read = run(libraries, "print(json.dumps(read(cards=2, mig=2)))", CUDA_VISIBLE_DEVICES=visible)
    assert [(gpu["uuid"], gpu["device"]) for gpu in read["gpus"] if gpu["device"]] == [(visible, "cuda:0")]


# ---- containers ------------------------------------------------------------------------------------------------------------------


def test_a_process_that_the_driver_lists_under_another_pid_leaves_what_it_cannot_tell_unknown(libraries: Path) -> None:
    """It uses the card, since it has a pool there; the lists are of another PID namespace, or hidden."""
    program = """
pool = tc.MemoryPool(1 << 30, device="cuda:0")
print(json.dumps([read(cards=1, processes="7:4,8:2"), read(cards=1, used=6)]))
"""
    for read in run(libraries, program):
        (gpu,) = read["gpus"]
        assert gib(memory_of(gpu)) == [1, 0, None, None, 1, 73, 5]
        assert "inside a container it has another PID" in gpu["reasons"][0]


def test_hidden_processes_of_others_are_unknown(libraries: Path) -> None:
    """Nobody is listed and memory is in use; where none is in use nobody is hidden."""
    hidden, idle = run(libraries, "print(json.dumps([read(cards=1, used=6), read(cards=1)]))")
    assert gib(memory_of(hidden["gpus"][0])) == [0, 0, 0, None, 1, 73, 6]
    assert "those of other containers are hidden" in hidden["gpus"][0]["reasons"][0]
    assert gib(memory_of(idle["gpus"][0])) == [0, 0, 0, 0, 1, 79, 0]
    assert idle["gpus"][0]["reasons"] == []


def test_processes_without_bytes_are_unknown(libraries: Path) -> None:
    """Those of the reading process, or of another."""
    program = "print(json.dumps([read(cards=1, processes=listed) for listed in ('self:?,7:4', 'self:3,7:?')]))"
    mine, other = run(libraries, program)
    assert gib(memory_of(mine["gpus"][0])) == [0, 0, None, 4, 1, 73, 2]
    assert gib(memory_of(other["gpus"][0])) == [0, 0, 3, None, 1, 74, 2]
    for read in (mine, other):
        assert read["gpus"][0]["reasons"] == ["processes: the driver does not tell the memory of each"]


# ---- which card is cuda:0, and what else this process has on it ------------------------------------------------------------------

UUID1 = "GPU-00000001-0000-0000-0000-000000000004"


@pytest.mark.parametrize(
    ("visible", "order", "names", "devices"),
    [
        (None, None, "", ["cuda:0", "cuda:1", "cuda:2"]),
        ("2,0", None, "", ["cuda:1", None, "cuda:0"]),
        (UUID1[:12] + ",0", None, "", ["cuda:1", "cuda:0", None]),
        ("1,9,0", None, "", [None, "cuda:0", None]),
        ("1,1", None, "", [None, "cuda:0", None]),
        ("-1", None, "", [None, None, None]),
        ("", None, "", [None, None, None]),
        ("GPU-", None, "", [None, None, None]),
        (None, None, "mixed", [None, None, None]),
        (None, "PCI_BUS_ID", "mixed", ["cuda:0", "cuda:1", "cuda:2"]),
        (UUID1, None, "mixed", [None, "cuda:0", None]),
    ],
)
def test_cards_have_the_numbers_that_cuda_will_give_them(
    libraries: Path, visible: str | None, order: str | None, names: str, devices: list[str | None]
) -> None:
    """As CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are read; None where it can't be known before CUDA has started."""
    settings = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order}
    named = ", names='mixed'" * bool(names)
    read = run(libraries, f"print(json.dumps(read(cards=3{named})))", **{k: v for k, v in settings.items() if v is not None})
    assert [gpu["device"] for gpu in read["gpus"]] == devices


def test_pools_on_a_card_that_cannot_be_told_are_named(libraries: Path) -> None:
    program = "pool = tc.MemoryPool(1 << 30, device='cuda:1')\nprint(json.dumps(read(cards=2, names='mixed')))"
    read = run(libraries, program)
    assert [gib(memory_of(gpu))[0] for gpu in read["gpus"]] == [0, 0]
    assert read["gpu_reasons"] == ["pools on cuda:1 are part of no card's figures: which card that is can't be told"]


LIBRARIES = """
import ctypes, types
ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
entered = []

class Device:
    def __init__(self, number): self.number = number
    def __enter__(self): entered.append(self.number)
    def __exit__(self, *_): pass

class Pool:
    def total_bytes(self): return (1 + entered[-1]) << 30

Pool.__module__ = "cupy.cuda.memory"
cupy = types.SimpleNamespace(get_default_memory_pool=Pool, cuda=types.SimpleNamespace(
    Device=Device, runtime=types.SimpleNamespace(getDevice=lambda: 0)))
torch = types.SimpleNamespace(cuda=types.SimpleNamespace(
    is_initialized=lambda: True, get_allocator_backend=lambda: "native", memory_reserved=lambda number: 4 << 30))
sys.modules.update(cupy=cupy, torch=torch)
"""


def test_a_started_cuda_says_itself_which_card_is_which(libraries: Path) -> None:
    program = LIBRARIES + "print(json.dumps(read(cards=3, names='mixed', cuda='2,0')))"
    assert [gpu["device"] for gpu in run(libraries, program)["gpus"]] == ["cuda:1", None, "cuda:0"]


def test_pools_of_cupy_and_pytorch_are_told_apart_where_they_are_loaded(libraries: Path) -> None:
    """CuPy is asked on cards with a context alone, since asking makes one."""
    program = (
        LIBRARIES
        + """
pool = tc.MemoryPool(1 << 30, device="cuda:0")
gpus = read(cards=2, cuda="0,1", active=1, processes="self:9,7:4")["gpus"]
print(json.dumps([gpus, entered]))
"""
    )
    gpus, entered = run(libraries, program)
    assert [gib(memory_of(gpu)) for gpu in gpus] == [[1, 5, 3, 4, 1, 66, 0], [0, 4, 5, 4, 1, 66, 0]]
    assert entered == [0]


def test_a_library_that_does_not_say_leaves_its_bytes_unknown(libraries: Path) -> None:
    """It raises; CuPy's answer would start CUDA on another card; PyTorch's memory is a plugged-in allocator's; its pool is ours."""
    program = (
        LIBRARIES
        + """
settings = dict(cards=2, cuda="0,1", processes="self:9")
def broken(number): raise RuntimeError("half imported")
torch.cuda.memory_reserved = broken
results = [read(active=2, **settings)["gpus"][0]]
torch.cuda.get_allocator_backend = lambda: "pluggable"
results.append(read(active=2, **settings)["gpus"][0])
cupy.cuda.runtime.getDevice = lambda: 1
results.append(read(active=1, **settings)["gpus"][0])
Pool.__module__ = "tensorcore"
results.append(read(active=1, **settings)["gpus"][0])
torch.cuda.is_initialized = lambda: False
results.append(read(active=1, **settings)["gpus"][0])
print(json.dumps(results))
"""
    )
    broken, pluggable, starting, ours, unused = run(libraries, program)
    assert gib(memory_of(broken)) == [0, None, None, 0, 1, 70, 9]
    assert broken["reasons"] == ["other pools: torch does not say: half imported"]
    assert gib(memory_of(pluggable)) == [0, 1, 8, 0, 1, 70, 0]
    assert gib(memory_of(starting)) == [0, None, None, 0, 1, 70, 9]
    assert starting["reasons"] == ["other pools: cupy does not say: asking would start CUDA on device 1"]
    assert gib(memory_of(ours)) == gib(memory_of(unused)) == [0, 0, 9, 0, 1, 70, 0]


def test_the_command_line_shows_the_same_figures(libraries: Path) -> None:
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries), "FAKE_CARDS": "2", "FAKE_PROCESSES": "7:4"}
    for words in (["info"], ["run", "-m", "this"]):
        command = [sys.executable, "-m", "tensorcore", *words]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120, check=True)
        assert "cuda:1 Made-up 100" in done.stdout + done.stderr
        assert "other processes" in done.stdout + done.stderr


# ---- a real card -----------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_the_figures_of_real_cards_add_up() -> None:
    cards, missing = read_cards()
    if not cards:
        pytest.skip(f"{missing}")
    statistics = tc.statistics()
    assert len(statistics.gpus) == len(cards)
    for gpu in statistics.as_dict()["gpus"]:
        assert gpu["name"]
        if gpu["memory"] is None:
            assert any(reason.startswith("memory: ") for reason in gpu["reasons"])
        else:
            assert memory_of(gpu)["total"] > 0
        assert gpu["utilization"] is None or 0 <= gpu["utilization"] <= 1
    assert str(statistics)
