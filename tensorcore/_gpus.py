"""Who holds a card's memory: what the driver says of each process, reconciled with the pools of this one. The parts add up exactly.

A part that could not be told is None, and `unknown` holds it with whatever nobody accounts for. CuPy's and PyTorch's own pools are
asked only where the program has loaded them and CUDA runs on the card; nothing is imported or started for it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._sheets import Sheet, bytes_text, percent_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._cuda_driver import CudaDevice
    from ._nvml import Card


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Who holds the memory of one card, in bytes.

    The sum of all the others is `total`, exactly; None counts as 0, means 'could not be told', and leaves its bytes in `unknown`.

    `pools` are TensorCore's segments on it, `other_pools` what CuPy's and PyTorch's own pools of this process hold, `context` the
    rest of this process (CUDA contexts, kernels, libraries, pools without figures), `other_processes` what the driver lists for
    others, `driver` what driver and firmware keep for themselves. Sources: the pools' counters, then NVML; both move while they are
    read, so that where they contradict each other the later ones are cut.
    """

    total: int
    pools: int
    other_pools: int | None
    context: int | None
    other_processes: int | None
    driver: int | None
    free: int | None
    unknown: int


@dataclass(frozen=True, slots=True)
class GpuStatistics:
    """One card, or one MIG instance of a card: its memory, load and health; None where it isn't offered, and `reasons` says why.

    `device` is the name under which this process uses it ('cuda:0'), None where it can't or where that isn't known; `index` is the
    driver's number of the card. `utilization` is the part of the time, 0..1, in which a kernel ran; `temperature` is in °C; ECC
    errors are those since the driver was loaded.
    """

    device: str | None
    index: int
    name: str | None
    uuid: str | None
    mig: bool
    memory: GpuMemory | None
    utilization: float | None
    temperature: int | None
    ecc_enabled: bool | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    reasons: tuple[str, ...]


def read_gpus(reserved: Mapping[str, int]) -> tuple[tuple[GpuStatistics, ...], tuple[str, ...]]:
    """Return the cards of this machine, and why there are none or pools are on none of them.

    Parameters
    ----------
    reserved
        Bytes that TensorCore's pools hold, by device name.
    """
    from ._cuda_driver import started_devices
    from ._nvml import read_cards

    cards, missing = read_cards()
    started = started_devices() if cards else None
    numbers = _number(cards, started)
    gpus = tuple(_reconcile(card, number, started, reserved) for card, number in zip(cards, numbers, strict=True))
    reasons = [] if missing is None else [missing]
    elsewhere = {name for name, nbytes in reserved.items() if name.startswith("cuda") and nbytes} - {gpu.device for gpu in gpus}
    if cards and elsewhere:
        names = ", ".join(sorted(elsewhere))
        reasons.append(f"pools on {names} are part of no card's figures: which card that is can't be told")
    return gpus, tuple(reasons)


# ---- which card is cuda:0 -------------------------------------------------------------------------------------------------------


def _number(cards: Sequence[Card], started: Sequence[CudaDevice] | None) -> list[int | None]:
    """Return CUDA's number of each card: from its driver where it has started, else what CUDA_VISIBLE_DEVICES says it will be."""
    if started is not None:
        order = [device.uuid for device in started]
        return [order.index(plain) if (plain := _plain_uuid(card)) in order else None for card in cards]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    words = [str(index) for index in range(len(cards))] if visible is None else [word.strip() for word in visible.split(",")]
    places: list[int] = []
    for word in words:
        place = _find_card(cards, word)
        if place is None or place in places:
            break  # as CUDA does: what comes after the first wrong word is not visible
        places.append(place)
    return [places.index(place) if place in places else None for place in range(len(cards))]


def _find_card(cards: Sequence[Card], word: str) -> int | None:
    """Return the place of the card that a word of CUDA_VISIBLE_DEVICES means; None: there is none, or it can't be known yet."""
    if not word.isdecimal():
        found = [place for place, card in enumerate(cards) if word and (card.uuid or "").startswith(word)]
        return found[0] if len(found) == 1 else None
    same = len({card.name for card in cards}) == 1  # else CUDA puts the fastest first, unless it is told otherwise
    if any(card.mig for card in cards) or not (same or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"):
        return None
    return int(word) if int(word) < len(cards) else None


def _plain_uuid(card: Card) -> str:
    return (card.uuid or "").removeprefix("GPU-").removeprefix("MIG-").lower()


# ---- who holds its memory -------------------------------------------------------------------------------------------------------


def _reconcile(card: Card, number: int | None, started: Sequence[CudaDevice] | None, reserved: Mapping[str, int]) -> GpuStatistics:
    device = None if number is None else f"cuda:{number}"
    reasons = list(card.reasons)
    memory = None
    if card.total is not None:
        ours = reserved.get(device, 0) if device else 0
        others = 0 if number is None else _other_pools(number, started, reasons)
        active = number is not None and started is not None and started[number].active
        memory = _account(card, ours, others, active or ours + (others or 0) > 0, reasons)
    return GpuStatistics(
        device=device,
        index=card.index,
        name=card.name,
        uuid=card.uuid,
        mig=card.mig,
        memory=memory,
        utilization=card.utilization,
        temperature=card.temperature,
        ecc_enabled=card.ecc_enabled,
        ecc_corrected=card.ecc_corrected,
        ecc_uncorrected=card.ecc_uncorrected,
        reasons=tuple(reasons),
    )


def _account(card: Card, ours: int, other_pools: int | None, in_use: bool, reasons: list[str]) -> GpuMemory:
    """Divide the card's memory; what is told first is believed, what is left is unknown."""
    assert card.total is not None
    own = (card.processes or {}).get(os.getpid())
    if own is not None and ours > own:
        reasons.append(f"pools: they hold {ours:,} bytes, the driver counts {own:,} for this process; the rest is not on the card")
        ours = own
    context, other_processes = _divide_processes(card, ours, other_pools, in_use, reasons)
    told = {
        "pools": ours,
        "free": card.free,
        "driver": card.driver,
        "other_pools": other_pools,
        "other_processes": other_processes,
        "context": context,
    }
    left = card.total
    for name, nbytes in told.items():
        if nbytes is not None and nbytes > left:
            reasons.append(f"{name.replace('_', ' ')}: {nbytes:,} bytes told where {left:,} were left; read at different moments")
            told[name] = nbytes = left
        left -= nbytes or 0
    return GpuMemory(total=card.total, unknown=left, **told)  # type: ignore[arg-type]  # `pools` is told


def _divide_processes(
    card: Card, ours: int, other_pools: int | None, in_use: bool, reasons: list[str]
) -> tuple[int | None, int | None]:
    """Return the bytes of this process beside the pools, and those of other processes, as far as the driver's list tells them."""
    listed = card.processes
    if listed is None:
        return None, None
    own = listed.get(os.getpid())
    others = [nbytes for pid, nbytes in listed.items() if pid != os.getpid()]
    if os.getpid() not in listed:
        if in_use:
            reasons.append(
                f"this process: it uses the card and is not among the {len(listed)} that the driver lists; inside a container "
                "it has another PID there, or the list is hidden"
            )
            return None, None
        if not listed and card.free is not None and card.total is not None and card.total > card.free + (card.driver or 0):
            reasons.append("other processes: memory is in use and the driver lists nobody; those of other containers are hidden")
            return 0, None
    if any(nbytes is None for nbytes in listed.values()):
        reasons.append("processes: the driver does not tell the memory of each")
    told = None if None in others else sum(nbytes or 0 for nbytes in others)
    if os.getpid() not in listed:
        return 0, told
    return None if own is None or other_pools is None else max(0, own - ours - other_pools), told


# ---- other pools of this process ------------------------------------------------------------------------------------------------


def _other_pools(number: int, started: Sequence[CudaDevice] | None, reasons: list[str]) -> int | None:
    """Return the bytes on a card that CuPy's and PyTorch's own pools hold; None where one of them does not say."""
    total = 0
    for library, read in (("cupy", _read_cupy), ("torch", _read_torch)):
        if library in sys.modules:
            try:
                total += read(sys.modules[library], number, started or ())
            except Exception as error:  # half imported, replaced by somebody, or of another version
                reasons.append(f"other pools: {library} does not say: {error}")
                return None
    return total


def _read_cupy(cupy: Any, number: int, started: Sequence[CudaDevice]) -> int:
    pool = cupy.get_default_memory_pool()
    if number >= len(started) or not started[number].active:  # it holds nothing, and asking would make a context
        return 0
    if not type(pool).__module__.startswith("cupy"):  # a pool of ours in its place: counted already
        return 0
    current = cupy.cuda.runtime.getDevice()
    if current != number and not started[current].active:
        raise RuntimeError(f"asking would start CUDA on device {current}")
    with cupy.cuda.Device(number):
        return int(pool.total_bytes())


def _read_torch(torch: Any, number: int, started: Sequence[CudaDevice]) -> int:  # noqa: ARG001 - a reader's signature
    if not torch.cuda.is_initialized():
        return 0
    if torch.cuda.get_allocator_backend() == "pluggable":  # its memory is in somebody's pool
        return 0
    return int(torch.cuda.memory_reserved(number))


# ---- table ----------------------------------------------------------------------------------------------------------------------

_PARTS = {
    "pools": "TensorCore's pools",
    "other_pools": "other pools of this process",
    "context": "context and libraries",
    "other_processes": "other processes",
    "driver": "driver",
    "free": "free",
    "unknown": "unknown",
    "total": "total",
}


def gpus_sheet(gpus: Sequence[GpuStatistics], reasons: Sequence[str]) -> Sheet:
    """Return the cards as a table, a column for each; reasons below, and nothing else where there are no cards."""
    if not gpus:
        return Sheet("GPUs: none", [], notes=list(reasons))

    def part(gpu: GpuStatistics, name: str) -> str:
        return bytes_text(None if gpu.memory is None else getattr(gpu.memory, name))

    sheet = Sheet("GPUs", ["memory held by", *map(_heading, gpus)])
    sheet.rows += [[words, *(part(gpu, name) for gpu in gpus)] for name, words in _PARTS.items()]
    sheet.rows.append(["utilization", *(percent_text(gpu.utilization) for gpu in gpus)])
    sheet.rows.append(["temperature", *("-" if gpu.temperature is None else f"{gpu.temperature} °C" for gpu in gpus)])
    sheet.rows.append(["ECC errors corrected, not", *map(_ecc_text, gpus)])
    sheet.notes += [f"{_heading(gpu)}: {reason}" for gpu in gpus for reason in gpu.reasons] + list(reasons)
    return sheet


def _heading(gpu: GpuStatistics) -> str:
    name = gpu.device or f"card {gpu.index}"
    return f"{name} {'MIG ' if gpu.mig else ''}{gpu.name or ''}".rstrip()


def _ecc_text(gpu: GpuStatistics) -> str:
    if not gpu.ecc_enabled:
        return "-" if gpu.ecc_enabled is None else "off"
    return ", ".join("-" if count is None else f"{count:,}" for count in (gpu.ecc_corrected, gpu.ecc_uncorrected))
