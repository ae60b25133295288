"""Sensors are read as the kernel lays them out; what is missing, refused or implausible is absent, never made up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from fastzoo import _sensors


def lay_out(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


RAPL = {
    "class/powercap/intel-rapl:0/name": "package-0",
    "class/powercap/intel-rapl:0/energy_uj": "1000",
    "class/powercap/intel-rapl:0/max_energy_range_uj": "5000",
    "class/powercap/intel-rapl:0:0/name": "core",
    "class/powercap/intel-rapl:0:0/energy_uj": "900",
    "class/powercap/intel-rapl:1/name": "psys",
    "class/powercap/intel-rapl:1/energy_uj": "7000",
}
PACKAGE = "class/powercap/intel-rapl:0/energy_uj"


def test_nothing_is_known_of_a_machine_without_sensors(tmp_path: Path) -> None:
    assert _sensors.governor(tmp_path) is None
    assert _sensors.temperature(tmp_path) is None
    assert _sensors.meter(tmp_path) is None


def test_governors_that_differ_are_all_named(tmp_path: Path) -> None:
    cpu = "devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    lay_out(tmp_path, {cpu.format(0): "schedutil", cpu.format(1): "schedutil"})
    assert _sensors.governor(tmp_path) == "schedutil"
    lay_out(tmp_path, {cpu.format(10): "performance"})
    assert _sensors.governor(tmp_path) == "performance, schedutil"


def test_the_hottest_sensor_of_the_processor_counts(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "class/thermal/thermal_zone0/type": "acpitz",
            "class/thermal/thermal_zone0/temp": "90000",
            "class/thermal/thermal_zone1/type": "cpu-thermal",
            "class/thermal/thermal_zone1/temp": "48312",
            "class/thermal/thermal_zone2/type": "soc_thermal",
            "class/thermal/thermal_zone2/temp": "-273000",  # off
            "class/hwmon/hwmon0/name": "coretemp",
            "class/hwmon/hwmon0/temp1_input": "51000",
            "class/hwmon/hwmon0/temp2_input": "no number",
        },
    )
    assert _sensors.temperature(tmp_path) == 51.0
    (tmp_path / "class/hwmon/hwmon0/temp1_input").unlink()
    assert _sensors.temperature(tmp_path) == pytest.approx(48.312)


def test_packages_are_counted_and_what_lies_in_or_around_them_is_not(tmp_path: Path) -> None:
    meter = _sensors.meter(lay_out(tmp_path, RAPL))
    assert meter is not None
    assert meter.source == "powercap package-0"
    meter.start()
    lay_out(tmp_path, {PACKAGE: "4500"})
    meter.sample()
    assert meter.joules() == pytest.approx(3500e-6)


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    meter = _sensors.meter(lay_out(tmp_path, RAPL))
    assert meter is not None
    lay_out(tmp_path, {PACKAGE: "4900"})
    meter.start()
    lay_out(tmp_path, {PACKAGE: "200"})
    assert meter.joules() == pytest.approx(300e-6)


def test_a_counter_that_stops_answering_gives_nothing_until_it_is_started_again(tmp_path: Path) -> None:
    meter = _sensors.meter(lay_out(tmp_path, RAPL))
    assert meter is not None
    meter.start()
    (tmp_path / PACKAGE).unlink()
    meter.sample()
    lay_out(tmp_path, {PACKAGE: "2000"})
    assert meter.joules() is None
    meter.start()
    lay_out(tmp_path, {PACKAGE: "2500"})
    assert meter.joules() == pytest.approx(500e-6)


def test_counters_that_may_not_be_read_are_no_meter(tmp_path: Path) -> None:
    lay_out(tmp_path, {name: text for name, text in RAPL.items() if name != PACKAGE})
    (tmp_path / PACKAGE).mkdir()  # root reads every file, but no folder
    assert _sensors.meter(tmp_path) is None


def test_a_sensor_of_power_is_added_up_over_time(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "class/hwmon/hwmon0/name": "amdgpu",
            "class/hwmon/hwmon0/power1_input": "90000000",
            "class/hwmon/hwmon1/name": "ina3221",
            "class/hwmon/hwmon1/power1_input": "3000000",
        },
    )
    meter = _sensors.meter(tmp_path)
    assert meter is not None
    assert meter.source == "hwmon ina3221 power1_input"
    begin = time.perf_counter()
    meter.start()
    time.sleep(0.02)
    joules = meter.joules()
    assert joules is not None
    assert 3 * 0.02 <= joules <= 3 * (time.perf_counter() - begin)
    (tmp_path / "class/hwmon/hwmon1/power1_input").unlink()
    assert meter.joules() is None


def test_a_counter_of_hwmon_without_a_limit_is_given_up_when_it_falls(tmp_path: Path) -> None:
    energy = "class/hwmon/hwmon0/energy1_input"
    meter = _sensors.meter(lay_out(tmp_path, {"class/hwmon/hwmon0/name": "scmi", energy: "100"}))
    assert meter is not None
    meter.start()
    lay_out(tmp_path, {energy: "600"})
    assert meter.joules() == pytest.approx(500e-6)
    lay_out(tmp_path, {energy: "50"})
    assert meter.joules() is None
