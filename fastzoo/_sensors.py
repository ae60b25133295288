"""What the kernel tells of the processor at work: governor, temperature, energy, memory; absent where it does not."""

from __future__ import annotations

import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SYS = Path("/sys")

_RAPL = re.compile(r"intel-rapl:\d+")  # packages; what is in them counts in them, and psys counts more than the CPU
_PROCESSOR = re.compile(r"cpu|pkg|package|soc|core|k10temp|tctl", re.IGNORECASE)
_OTHERS = re.compile(r"amdgpu|nouveau|i915|xe|nvme|iwlwifi|bat|adp|ac\b|ucsi", re.IGNORECASE)  # as names begin
_COLDEST, _HOTTEST = -60.0, 200.0  # degrees; sensors that are off say something beyond


def governor(root: Path = SYS) -> str | None:
    """How the kernel chooses the clock of the processors, ``"schedutil"``; several where they differ."""
    found = {_text(path) for path in root.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(name for name in found if name)) or None


def temperature(root: Path = SYS) -> float | None:
    """Degrees Celsius of the processor, of several sensors the hottest; None where none is known to be its."""
    values = [
        value
        for sensor, name in _temperature_sensors(root)
        if _PROCESSOR.search(name) and (value := _number(sensor, 1e-3)) is not None and _COLDEST < value < _HOTTEST
    ]
    return max(values, default=None)


def _temperature_sensors(root: Path) -> Iterator[tuple[Path, str]]:
    """Files of millidegrees, and what they are of."""
    for zone in root.glob("class/thermal/thermal_zone*"):
        yield zone / "temp", _text(zone / "type") or ""
    for chip in root.glob("class/hwmon/hwmon*"):
        for sensor in chip.glob("temp*_input"):
            yield sensor, _text(chip / "name") or ""


class Meter(ABC):
    """Joules since :meth:`start`. :meth:`sample` is called every few milliseconds in between."""

    source: str  # what was read, "powercap package-0"

    @abstractmethod
    def start(self) -> None:
        """Begin to count."""

    @abstractmethod
    def sample(self) -> None:
        """Take notice of the time in between."""

    @abstractmethod
    def joules(self) -> float | None:
        """Counted so far; None where a sensor stopped answering."""


class _Counters(Meter):
    """Counters of microjoules, which begin again at their limits."""

    def __init__(self, limits: Mapping[Path, float | None], source: str) -> None:
        self.source, self._limits = source, limits
        self._last: dict[Path, float | None] = {}
        self._sum, self._broken = 0.0, False

    def start(self) -> None:
        self._last = {path: _number(path) for path in self._limits}
        self._sum, self._broken = 0.0, False

    def sample(self) -> None:
        for path, limit in self._limits.items():
            now, before = _number(path), self._last[path]
            if now is None or before is None or (now < before and not limit):
                self._broken = True
                return
            self._sum += now - before + (limit if limit and now < before else 0)
            self._last[path] = now

    def joules(self) -> float | None:
        self.sample()
        return None if self._broken else self._sum * 1e-6


class _Powers(Meter):
    """A sensor of microwatts, read often enough to be added up over time."""

    def __init__(self, sensors: Iterable[Path], source: str) -> None:
        self.source, (self._sensor,) = source, sensors
        self._since, self._sum, self._broken = 0.0, 0.0, False

    def start(self) -> None:
        self._since, self._sum, self._broken = time.perf_counter(), 0.0, False

    def sample(self) -> None:
        now, power = time.perf_counter(), _number(self._sensor, 1e-6)
        if power is None:
            self._broken = True
            return
        self._sum += power * (now - self._since)
        self._since = now

    def joules(self) -> float | None:
        self.sample()
        return None if self._broken else self._sum


def meter(root: Path = SYS) -> Meter | None:
    """The best energy meter that this process may read; None where there is none, and on most boards there is none.

    RAPL counts what the processor's packages take (the kernel lets root alone read it, as a rule); sensors of hwmon
    measure what they are soldered to, often the whole board.
    """
    packages = {
        zone / "energy_uj": _number(zone / "max_energy_range_uj")
        for zone in sorted(root.glob("class/powercap/intel-rapl:*"))
        if _RAPL.fullmatch(zone.name) and (_text(zone / "name") or "").startswith("package")
    }
    if packages and all(_number(path) is not None for path in packages):
        return _Counters(packages, f"powercap {', '.join(_text(path.parent / 'name') or '' for path in packages)}")
    for chip in sorted(root.glob("class/hwmon/hwmon*")):
        name = _text(chip / "name") or chip.name
        if _OTHERS.match(name):
            continue
        for pattern, kind in (("energy*_input", _Counters), ("power*_input", _Powers)):
            readable = [path for path in sorted(chip.glob(pattern)) if _number(path) is not None]
            if readable:  # of several the first: one may be the sum of the others
                return kind({readable[0]: None}, f"hwmon {name} {readable[0].name}")
    return None


def peak_memory() -> int | None:
    """The most bytes of memory this process has held so far; None on Windows."""
    if sys.platform == "win32":
        return None
    peak = re.search(r"^VmHWM:\s*(\d+) kB", _text(Path("/proc/self/status")) or "", re.MULTILINE)
    if peak:  # getrusage's begins with that of the process which started this one
        return int(peak[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # sensors that are there may refuse to answer
        return None


def _number(path: Path, unit: float = 1.0) -> float | None:
    try:
        return int(_text(path) or "") * unit
    except ValueError:
        return None
