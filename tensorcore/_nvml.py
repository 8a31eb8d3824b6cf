"""What NVML, the driver's own monitor, says of the cards: the only importer of nvidia-ml-py, imported at the first question.

Nothing here raises. A question that the driver refuses (no permission, not supported, MIG, a lost card) leaves None and a reason.
The first reading of a process starts NVML, some 20 ms on a machine with cards; it stays started. CUDA is not started by it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

# Of nvml.h: the size and version of nvmlMemory_v2_t; NVML_TEMPERATURE_GPU; nvmlMemoryErrorType_t; NVML_VOLATILE_ECC.
_MEMORY_VERSION_2 = 40 | 2 << 24
_CORE_SENSOR = 0
_CORRECTED, _UNCORRECTED = 0, 1
_SINCE_LOADED = 0

_started_in: int | None = None  # the process that started NVML: a forked child starts it anew


@dataclass(frozen=True, slots=True)
class Card:
    """One card, or one MIG instance of a card, as the driver sees it; sizes in bytes, None where it doesn't say, with a reason."""

    index: int  # the driver's number of the card
    name: str | None = None
    uuid: str | None = None  # 'GPU-...', 'MIG-...'
    mig: bool = False
    total: int | None = None
    free: int | None = None
    driver: int | None = None  # held by driver and firmware, part of no process
    processes: dict[int, int | None] | None = None  # bytes by PID
    utilization: float | None = None
    temperature: int | None = None
    ecc_enabled: bool | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    reasons: tuple[str, ...] = ()


def read_cards() -> tuple[list[Card], str | None]:
    """Return the cards in the driver's order, and why they are none or incomplete, None where there is nothing to say."""
    try:
        import pynvml
    except ImportError:
        return [], "no figures of GPUs: the package nvidia-ml-py is not installed; pip install nvidia-ml-py"
    except Exception as error:
        return [], f"no figures of GPUs: importing nvidia-ml-py failed: {_describe(error)}"
    try:
        count = _start_and_count(pynvml)
    except Exception as error:
        return [], f"no figures of GPUs: {_explain(error)}"
    cards: list[Card] = []
    for index in range(count):
        cards += _read_card(pynvml, index)
    return cards, None if cards else "no figures of GPUs: the driver lists no card"


def _start_and_count(nvml: Any) -> int:
    global _started_in
    if _started_in == os.getpid():
        try:
            return int(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError_Uninitialized:  # somebody shut it down more often than they started it
            pass
    nvml.nvmlInit()
    _started_in = os.getpid()
    return int(nvml.nvmlDeviceGetCount())


def _explain(error: Exception) -> str:
    kind = type(error).__name__
    if kind == "NVMLError_LibraryNotFound":
        return "libnvidia-ml.so.1 is not there: install the NVIDIA driver (a container: start it with docker run --gpus all)"
    if kind == "NVMLError_DriverNotLoaded":
        return "the NVIDIA driver is installed but not running: load the kernel module (modprobe nvidia) or reboot"
    return f"NVML does not start: {_describe(error)}"


def _describe(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # nvidia-ml-py asks the driver for the text
        return type(error).__name__


class _Questions:
    """Asks NVML about one card, or an instance of the card `whole`, and notes what is refused."""

    def __init__(self, nvml: Any, handle: Any, whole: _Questions | None = None) -> None:
        self.nvml, self.handle = nvml, handle
        self.whole = handle if whole is None else whole.handle
        self.reasons: list[str] = [] if whole is None else list(whole.reasons)

    def ask(self, what: str, function: str, *arguments: Any, whole: bool = False) -> Any | None:
        """Return the answer, None where there is none and the reason is noted under `what`."""
        try:
            return getattr(self.nvml, function)(self.whole if whole else self.handle, *arguments)
        except Exception as error:  # whatever nvidia-ml-py of whatever age raises
            self.reasons.append(f"{what}: {_describe(error)}")
            return None

    def ask_first(self, what: str, *questions: tuple[Any, ...], whole: bool = False) -> Any | None:
        """Return the first answer there is: for functions that newer drivers have and older ones lack."""
        before = len(self.reasons)
        for function, *arguments in questions:
            answer = self.ask(what, function, *arguments, whole=whole)
            if answer is not None:
                del self.reasons[before:]
                return answer
        del self.reasons[before:-1]
        return None


def _read_card(nvml: Any, index: int) -> list[Card]:
    """Return a card, or its MIG instances where it is divided and they can be reached."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except Exception as error:
        return [Card(index, reasons=(f"card {index}: {_describe(error)}",))]
    card = _Questions(nvml, handle)
    if not _is_divided(card):
        return [_read_figures(card, index, mig=False)]
    instances = _find_instances(card)
    if not instances:
        card.reasons.append("the card is divided (MIG) and no instance can be reached: these are figures of the whole card")
        return [_read_figures(card, index, mig=False)]
    return [_read_figures(_Questions(nvml, instance, card), index, mig=True) for instance in instances]


def _is_divided(card: _Questions) -> bool:
    try:
        return bool(card.nvml.nvmlDeviceGetMigMode(card.handle)[0])
    except Exception:  # a card, driver or package that knows no MIG
        return False


def _find_instances(card: _Questions) -> list[Any]:
    instances = []
    for number in range(card.ask("MIG instances", "nvmlDeviceGetMaxMigDeviceCount") or 0):
        try:
            instances.append(card.nvml.nvmlDeviceGetMigDeviceHandleByIndex(card.handle, number))
        except Exception as error:
            if type(error).__name__ != "NVMLError_NotFound":  # a number that is free
                card.reasons.append(f"MIG instance {number}: {_describe(error)}")
    return instances


def _read_figures(card: _Questions, index: int, mig: bool) -> Card:
    name, uuid = card.ask("name", "nvmlDeviceGetName"), card.ask("UUID", "nvmlDeviceGetUUID")
    memory = card.ask_first("memory", ("nvmlDeviceGetMemoryInfo", _MEMORY_VERSION_2), ("nvmlDeviceGetMemoryInfo",))
    if memory is not None and not hasattr(memory, "reserved"):
        card.reasons.append("memory of the driver: this driver does not tell it apart")
    utilization = card.ask("utilization", "nvmlDeviceGetUtilizationRates")
    sensors = (("nvmlDeviceGetTemperatureV", _CORE_SENSOR), ("nvmlDeviceGetTemperature", _CORE_SENSOR))
    temperature = card.ask_first("temperature", *sensors, whole=True)
    ecc = card.ask("ECC", "nvmlDeviceGetEccMode", whole=True)
    corrected, uncorrected = _read_ecc_errors(card) if ecc is not None and ecc[0] else (None, None)
    processes = _read_processes(card)
    return Card(
        index=index,
        name=_text(name),
        uuid=_text(uuid),
        mig=mig,
        total=None if memory is None else int(memory.total),
        free=None if memory is None else int(memory.free),
        driver=getattr(memory, "reserved", None),
        processes=processes,
        utilization=None if utilization is None else utilization.gpu / 100,
        temperature=None if temperature is None else int(temperature),
        ecc_enabled=None if ecc is None else bool(ecc[0]),
        ecc_corrected=corrected,
        ecc_uncorrected=uncorrected,
        reasons=tuple(card.reasons),
    )


def _read_ecc_errors(card: _Questions) -> tuple[int | None, int | None]:
    """Return the corrected and the uncorrected memory errors since the driver was loaded."""
    function, since = "nvmlDeviceGetTotalEccErrors", _SINCE_LOADED
    return (
        card.ask("corrected ECC errors", function, _CORRECTED, since, whole=True),
        card.ask("uncorrected ECC errors", function, _UNCORRECTED, since, whole=True),
    )


def _read_processes(card: _Questions) -> dict[int, int | None] | None:
    """Return the bytes of each process that computes or draws on the card; one that does both is listed twice, with the same."""
    computing = card.ask("processes", "nvmlDeviceGetComputeRunningProcesses")
    if computing is None:
        return None
    drawing = card.ask("processes that draw", "nvmlDeviceGetGraphicsRunningProcesses")
    found: dict[int, int | None] = {}
    for process in (*computing, *(drawing or ())):
        nbytes, before = process.usedGpuMemory, found.get(int(process.pid))
        found[int(process.pid)] = before if nbytes is None else max(int(nbytes), before or 0)
    return found


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
