from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastzoo.data import Dataset
from fastzoo.data.hapt import CHANNELS
from fastzoo.errors import TrainingError
from fastzoo.train import Recipe, Settings
from fastzoo.train.augment import (
    Augmentation,
    Channels,
    random_masks,
    random_rotations,
    random_warps,
    sensor_groups,
    xyz_triples,
)
from fastzoo.train.recipe import change, load, parse, read, to_toml

from .task import fit_quickly, network, same, weights

N, T = 50, 7
TRIPLES = ((0, 1, 2), (3, 4, 5))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(features: int = 6, steps: int = T) -> Tensor:
    return torch.randn(N, steps, features, generator=seeded(9))


def channels(names: Sequence[str] = CHANNELS) -> Channels:
    """Channels with the means 100, 101, ... and the scales 1, 2, ..."""
    counted = torch.arange(float(len(names)))
    return Channels(tuple(names), 100 + counted, 1 + counted)


def augmented(x: Tensor, augmentation: Augmentation, seed: int = 0, names: Sequence[str] = CHANNELS) -> Tensor:
    return augmentation(x, channels(names), seeded(seed))


@pytest.mark.parametrize("angle", [0.01, 0.25, 3.0])
def test_rotations_are_rotations(angle: float) -> None:
    turns = random_rotations(1000, angle, seeded())
    assert torch.allclose(turns @ turns.mT, torch.eye(3, dtype=turns.dtype).expand_as(turns), atol=1e-12)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(1000, dtype=turns.dtype), atol=1e-12)


def test_angles_spread_as_asked_about_axes_in_all_directions() -> None:
    turns = random_rotations(20_000, 0.25, seeded())
    angle = torch.arccos(((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert angle.square().mean().sqrt().item() == pytest.approx(0.25, rel=0.02)
    assert angle.mean().item() == pytest.approx(0.25 * math.sqrt(2 / math.pi), rel=0.02)  # |N(0, 0.25)|
    skew = turns - turns.mT
    axis = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=1)
    axis = axis / axis.norm(dim=1, keepdim=True)
    assert axis.mean(0).abs().max() < 0.03
    assert (axis.T @ axis / len(axis)).diagonal().tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_turned_device_measures_the_same_lengths() -> None:
    x = windows()
    turned = augmented(x, Augmentation(rotate=0.5))
    assert (turned - x).abs().max() > 0.1
    for triple in TRIPLES:
        assert torch.allclose(turned[..., triple].norm(dim=2), x[..., triple].norm(dim=2), atol=1e-5)


def test_both_sensors_of_a_device_turn_together() -> None:
    x = windows(3).repeat(1, 1, 2)  # the gyroscope shows what the accelerometer shows
    turned = augmented(x, Augmentation(rotate=0.5))
    assert torch.equal(turned[..., :3], turned[..., 3:])


def test_a_window_turns_as_a_whole_and_every_window_otherwise() -> None:
    x = torch.tensor([1.0, 0, 0, 0, 0, 0]).expand(N, T, 6)
    turned = augmented(x, Augmentation(rotate=0.5))
    assert torch.equal(turned, turned[:, :1].expand_as(turned))
    assert len({tuple(row) for row in turned[:, 0].tolist()}) == N


def test_channels_of_no_triple_stay() -> None:
    x = windows(8)
    turned = augmented(x, Augmentation(rotate=0.5), names=("a", "m_y", "b", "m_z", "c", "m_x", "d", "e"))
    assert torch.equal(turned[..., [0, 2, 4, 6, 7]], x[..., [0, 2, 4, 6, 7]])
    assert (turned[..., [5, 1, 3]] != x[..., [5, 1, 3]]).any(dim=1).all()


def test_scaling_is_one_factor_per_window() -> None:
    x = windows()
    factors = augmented(x, Augmentation(scale=0.1)) / x
    assert torch.allclose(factors, factors[:, :1, :1].expand_as(factors), rtol=1e-4)
    many = augmented(torch.ones(20_000, 1, 6), Augmentation(scale=0.1))[:, 0, 0]
    assert many.mean().item() == pytest.approx(1, abs=0.005)
    assert many.std().item() == pytest.approx(0.1, rel=0.03)


def test_noise_is_a_share_of_each_channels_deviation() -> None:
    noise = augmented(torch.zeros(2000, T, 6), Augmentation(noise=0.5))
    assert noise.std(dim=(0, 1)).tolist() == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3], rel=0.03)
    assert noise.mean(dim=(0, 1)).abs().max() < 0.1
    assert abs(torch.corrcoef(noise.flatten(0, 1).T)[0, 1].item()) < 0.05


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(rotate=0.3),
        Augmentation(scale=0.3),
        Augmentation(noise=0.3),
        Augmentation(1, 1, 1),
        Augmentation(time_shift=0.5),
        Augmentation(time_warp=0.3),
        Augmentation(drop=0.5),
        Augmentation(time_masks=1, time_mask_width=0.5),
        Augmentation(frequency_masks=1, frequency_mask_width=2),
        Augmentation(frequency_warp=0.2),
        Augmentation(1, 1, 1, 0.5, 0.5, 0.5, 2, 0.5, 2, 2, 0.5, ("acc", "gyro_x*")),
    ],
)
def test_augmentation_is_seeded_and_leaves_its_input_alone(augmentation: Augmentation) -> None:
    x = windows()
    before = x.clone()
    once, again, other = augmented(x, augmentation), augmented(x, augmentation), augmented(x, augmentation, seed=1)
    assert torch.equal(x, before)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.dtype == x.dtype


def test_nothing_asked_for_is_nothing_done() -> None:
    x = windows()
    assert torch.equal(augmented(x, Augmentation()), x)
    assert torch.equal(augmented(x, Augmentation(rotate=0.3), names="abcdef"), x)


@pytest.mark.parametrize(
    ("names", "triples"),
    [
        (CHANNELS, TRIPLES),
        (("b_z [T]", "a_x [g]", "b_y [T]", "a_y [g]", "a_z [g]", "b_x [T]"), ((5, 2, 0), (1, 3, 4))),
        (("body_acc_x", "body_acc_y", "body_acc_z"), ((0, 1, 2),)),
        (("acc_x [g]", "acc_y [g]", "gyro_z [rad/s]"), ()),
        (("acc_x_left", "acc_y_left", "acc_z_left"), ()),
        (("accx", "accy", "accz"), ()),
        (("pixel_0", "pixel_1", "pixel_2"), ()),
        ((), ()),
    ],
)  # fmt: skip
def test_axes_are_found_by_name(names: tuple[str, ...], triples: tuple[tuple[int, int, int], ...]) -> None:
    assert xyz_triples(names) == triples


@given(
    sensors=st.lists(st.from_regex(r"[a-w]{1,5}(_[a-w]{1,5})?", fullmatch=True), max_size=4, unique=True),
    data=st.data(),
)
def test_axes_are_found_in_any_order(sensors: list[str], data: st.DataObject) -> None:
    names = data.draw(st.permutations([f"{sensor}_{axis} [unit]" for sensor in sensors for axis in "xyz"] + ["light"]))
    found = xyz_triples(names)
    assert {tuple(names[i] for i in triple) for triple in found} == {
        tuple(f"{sensor}_{axis} [unit]" for axis in "xyz") for sensor in sensors
    }


def with_three_fields(
    x: Tensor,
    axes: Sequence[Sequence[int]],
    std: Tensor,
    generator: torch.Generator,
    strengths: tuple[float, float, float],
) -> Tensor:
    """The augmentation as it was when the published models were trained."""
    rotate, scale, noise = strengths
    if rotate and axes:
        turn = random_rotations(len(x), rotate, generator).to(x.dtype)
        x = x.clone()
        for triple in axes:
            x[..., list(triple)] = x[..., list(triple)] @ turn
    if scale:
        x = x * (1 + scale * torch.randn(len(x), 1, 1, generator=generator))
    if noise:
        x = x + noise * std * torch.randn(x.shape, generator=generator)
    return x


@pytest.mark.parametrize("strengths", [(0, 0, 0), (0.25, 0, 0), (0, 0.1, 0), (0, 0, 0.1), (0.25, 0.1, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_turn_scale_and_noise_give_the_bits_that_they_always_gave(
    strengths: tuple[float, float, float], dtype: torch.dtype
) -> None:
    x, old, new = windows().to(dtype), seeded(5), seeded(5)
    for _ in range(3):
        expected = with_three_fields(x, TRIPLES, channels().std, old, strengths)
        assert torch.equal(Augmentation(*strengths)(x, channels(), new), expected)
        assert torch.equal(old.get_state(), new.get_state())
        x = expected


def test_a_shift_moves_an_impulse_by_whole_samples() -> None:
    x = torch.zeros(4000, 21, 2)
    x[:, 10] = torch.tensor([1.0, -2.0])
    shifted = augmented(x, Augmentation(time_shift=0.2), names="ab")
    later = shifted[..., 0].argmax(1) - 10
    assert torch.equal(shifted[..., 1], -2 * shifted[..., 0]), "all channels together"
    assert torch.equal(shifted.sum(1), torch.tensor([1.0, -2.0]).expand(4000, 2))
    counts = torch.bincount(later + 4, minlength=9)
    assert len(counts) == 9
    assert counts.min() > 4000 / 9 * 0.8


def test_the_gap_of_a_shift_repeats_the_edge() -> None:
    x = torch.arange(5.0)[None, :, None].expand(400, 5, 1)
    shifted = augmented(x, Augmentation(time_shift=1), names="a")[..., 0]
    expected = {tuple(min(max(t - later, 0), 4) for t in range(5)) for later in range(-5, 6)}
    assert {tuple(map(int, row)) for row in shifted.tolist()} == expected


@given(st.integers(2, 60), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_warp_rises_from_the_first_sample_to_the_last(steps: int, std: float, seed: int) -> None:
    when = random_warps(3, steps, std, seeded(seed))
    assert (when[:, 0] == 0).all()
    assert (when[:, -1] == steps - 1).all()
    assert (when.diff(dim=1) > 0).all()


def test_the_speed_of_a_warp_changes_smoothly_and_as_asked() -> None:
    speed = random_warps(20_000, 101, 0.2, seeded()).diff(dim=1).log()
    speed = speed - speed.mean(dim=1, keepdim=True)
    assert speed.std(dim=0).tolist() == pytest.approx([0.2] * 100, rel=0.05)
    assert speed.diff(dim=1).abs().max() < 0.2, "no jump"


def test_a_warp_reads_between_samples_on_a_straight_line() -> None:
    ramp = torch.arange(50.0)[None, :, None] * torch.tensor([1.0, -3.0])
    warped = augmented(ramp.expand(N, 50, 2), Augmentation(time_warp=0.3), names="ab")
    assert torch.allclose(warped[..., 0].double(), random_warps(N, 50, 0.3, seeded()), atol=1e-5)
    assert torch.allclose(warped[..., 1], -3 * warped[..., 0], atol=1e-4)
    x = windows(2, 50)
    warped = augmented(x, Augmentation(time_warp=0.3), names="ab")
    assert torch.equal(warped[:, [0, -1]], x[:, [0, -1]])
    assert (warped.amax(1) <= x.amax(1) + 1e-6).all()
    assert (warped[:, 1:-1] != x[:, 1:-1]).flatten(1).any(dim=1).all()


def test_a_sensor_is_dropped_as_a_whole() -> None:
    x = windows().repeat(100, 1, 1)
    dropped = augmented(x, Augmentation(drop=0.3))
    gone = dropped == channels().mean
    assert torch.equal(gone, gone[:, :1, [0, 0, 0, 3, 3, 3]].expand_as(gone))
    assert torch.equal(dropped[~gone], x[~gone])
    acc, gyro = gone[:, 0, 0].float(), gone[:, 0, 3].float()
    assert acc.mean().item() == pytest.approx(0.3, abs=0.03)
    assert gyro.mean().item() == pytest.approx(0.3, abs=0.03)
    assert (acc * gyro).mean().item() == pytest.approx(0.09, abs=0.02), "each for itself"
    assert (augmented(x, Augmentation(drop=1)) == channels().mean).all()


def runs(row: list[bool]) -> list[int]:
    """Lengths of the stretches of True."""
    return [len(run) for run in "".join("x" if value else " " for value in row).split()]


def test_a_time_mask_is_one_stretch_of_all_channels() -> None:
    x = windows(6, 40)
    masked = augmented(x, Augmentation(time_masks=1, time_mask_width=0.25))
    gone = masked == channels().mean
    assert torch.equal(gone, gone[..., :1].expand_as(gone))
    assert torch.equal(masked[~gone], x[~gone])
    lengths = [run for row in gone[..., 0].tolist() for run in runs(row) or [0]]
    assert len(lengths) == N
    assert set(lengths) <= set(range(11))
    assert len(set(lengths)) > 5


def test_frequency_masks_stay_inside_one_spectrogram() -> None:
    names = ("light", *(f"left_{i}" for i in (0, 1, 10, 2)), *(f"right {i} [dB]" for i in range(8)))
    x = windows(13)
    masked = augmented(x, Augmentation(frequency_masks=1, frequency_mask_width=3), names=names)
    gone = masked == channels(names).mean
    assert torch.equal(gone, gone[:, :1].expand_as(gone)), "all the time"
    assert torch.equal(masked[~gone], x[~gone])
    assert not gone[..., 0].any(), "a channel alone is no spectrogram"
    for bands in ([1, 2, 4, 3], list(range(5, 13))):  # neighbours by number, not by place
        lengths = [run for row in gone[:, 0, bands].tolist() for run in runs(row) or [0]]
        assert len(lengths) == N
        assert set(lengths) == {0, 1, 2, 3}


def test_a_frequency_warp_reads_the_bands_at_a_multiple_of_their_number() -> None:
    names = ("light", *(f"left_{i}" for i in (0, 1, 10, 2)), *(f"right {i} [dB]" for i in range(8)))
    left, right = [1, 2, 4, 3], list(range(5, 13))  # neighbours by number, not by place
    ramp = torch.zeros(N, T, 13)
    ramp[..., left], ramp[..., right] = torch.arange(4.0), torch.arange(8.0)
    warp = Augmentation(frequency_warp=0.2)
    factor = augmented(ramp, warp, names=names)[:, 0, 2].double()  # one for both spectrograms
    assert len(factor.unique()) == N
    x = windows(13)
    warped = augmented(x, warp, names=names)
    assert torch.equal(warped[..., 0], x[..., 0]), "a channel alone is no spectrogram"
    for bands in (left, right):
        number = np.arange(len(bands))
        for row, before, of_window in zip(
            warped[..., bands].numpy(), x[..., bands].numpy(), factor.numpy(), strict=True
        ):
            expected = [np.interp(number * of_window, number, step) for step in before]
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)


def test_frequency_warps_are_as_strong_as_asked_for_and_only_where() -> None:
    ramp = torch.arange(8.0).expand(20_000, 1, 8)
    names = tuple(f"mel_{i}" for i in range(8))
    factor = augmented(ramp, Augmentation(frequency_warp=0.1), names=names)[:, 0, 1].log()
    assert factor.mean().item() == pytest.approx(0, abs=0.005)
    assert factor.std().item() == pytest.approx(0.1, rel=0.03)
    names = (*(f"mel_{i}" for i in range(4)), *(f"mfcc_{i}" for i in range(4)))
    x = windows(8)
    changed = (augmented(x, Augmentation(frequency_warp=0.3, only=("mel",)), names=names) != x).any(dim=0).any(dim=0)
    assert changed.tolist() == [False, *[True] * 3, *[False] * 4]


@given(st.integers(1, 30), st.integers(0, 4), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_masks_are_bounded(size: int, count: int, widest: int, seed: int) -> None:
    masks = random_masks(5, size, count, widest, seeded(seed))
    assert masks.shape == (5, size)
    for row in masks.tolist():
        assert len(runs(row)) <= count
        assert sum(runs(row)) <= count * min(widest, size)


def test_a_mask_lies_anywhere_with_equal_chances() -> None:
    masks = random_masks(40_000, 10, 1, 3, seeded()).float()
    widths = torch.bincount(masks.sum(1).long())
    assert widths.tolist() == pytest.approx([10_000] * 4, rel=0.05)
    starts = masks[masks.sum(1) == 1].sum(0)
    assert starts.tolist() == pytest.approx([1000] * 10, rel=0.15)


@pytest.mark.parametrize(
    ("only", "touched"),
    [
        (("acc",), [0, 1, 2]),
        (("acc_*",), [0, 1, 2]),
        (("gyro_x*", "acc_y [[]g]"), [1, 3]),
        (("acc_x [g]",), [0]),
        (("*",), [0, 1, 2, 3, 4, 5]),
        (["gyro"], [3, 4, 5]),
    ],
)
@pytest.mark.parametrize(
    "what", [{"scale": 0.1}, {"noise": 0.1}, {"drop": 1.0}, {"time_masks": 5, "time_mask_width": 1.0}]
)
def test_only_some_channels_are_touched(only: Any, touched: list[int], what: dict[str, Any]) -> None:
    x = windows()
    changed = (augmented(x, Augmentation(**what, only=only)) != x).any(dim=1).any(dim=0)
    assert changed.nonzero()[:, 0].tolist() == touched


def test_frequency_masks_only_where_they_are_asked_for() -> None:
    x = windows(8)
    names = [f"{sensor}_{i}" for sensor in ("mel", "cqt") for i in range(4)]
    masked = augmented(x, Augmentation(frequency_masks=3, only=("mel*",)), names=names)
    assert (masked[..., :4] == channels(names).mean[:4]).any()
    assert torch.equal(masked[..., 4:], x[..., 4:])


@pytest.mark.parametrize(
    ("only", "touched"), [(("gyro",), [3, 4, 5]), (("acc_*", "gyro_x*"), [0, 1, 2]), ((), range(6))]
)
def test_only_whole_sensors_are_turned(only: tuple[str, ...], touched: Sequence[int]) -> None:
    x = windows()
    turned = augmented(x, Augmentation(rotate=0.3, only=only))
    assert (turned != x).any(dim=1).any(dim=0).nonzero()[:, 0].tolist() == list(touched)
    together = augmented(x, Augmentation(rotate=0.3))
    for axes in (slice(0, 3), slice(3, 6)):
        if axes.start in touched:
            assert torch.equal(turned[..., axes], together[..., axes]), "the turn is that of the window"


@pytest.mark.parametrize("what", [{"time_shift": 0.3}, {"time_warp": 0.3}])
def test_what_moves_the_window_moves_all_of_it(what: dict[str, Any]) -> None:
    x = windows(steps=30)
    assert torch.equal(augmented(x, Augmentation(**what, only=("acc",))), augmented(x, Augmentation(**what)))


@pytest.mark.parametrize("what", [{}, {"scale": 0.1}])
def test_a_pattern_that_fits_nothing_is_named(what: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"for 'mag\*' only, which fits no channel; there are acc_x \[g\], acc_y"):
        augmented(windows(), Augmentation(**what, only=("acc", "mag*")))


ALONE = ("accx", "accy", "x", "0", "_1", "acc_x_left")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (CHANNELS, {"acc": (0, 1, 2), "gyro": (3, 4, 5)}),
        (("a_z", "b_1", "a_x", "b_0", "a_y"), {"a": (2, 4, 0), "b": (3, 1)}),
        (("band 0", "band 1", "light [lx]", "mel-7"), {"band": (0, 1), "light": (2,), "mel": (3,)}),
        (("q_x", "q_y", "q_z", "q_w"), {"q": (3, 0, 1, 2)}),
        (ALONE, {name: (i,) for i, name in enumerate(ALONE)}),
        ((), {}),
    ],
)
def test_sensors_are_found_by_name(names: tuple[str, ...], groups: dict[str, tuple[int, ...]]) -> None:
    assert sensor_groups(names) == groups


@given(st.lists(st.text(max_size=8) | st.from_regex(r"[ab][_ .-]?([xyz]|[0-9]{1,2})( \[g\])?", fullmatch=True)))
def test_every_channel_is_of_one_sensor(names: list[str]) -> None:
    found = sorted(channel for members in sensor_groups(names).values() for channel in members)
    assert found == list(range(len(names)))


augmentations = st.builds(
    Augmentation,
    rotate=st.floats(0, 2),
    scale=st.floats(0, 1),
    noise=st.floats(0, 1),
    time_shift=st.floats(0, 1),
    time_warp=st.floats(0, 1),
    drop=st.floats(0, 1),
    time_masks=st.integers(0, 3),
    time_mask_width=st.floats(0, 1),
    frequency_masks=st.integers(0, 3),
    frequency_mask_width=st.integers(0, 9),
    frequency_warp=st.floats(0, 1),
    only=st.sampled_from([(), ("*",), ("acc",), ("acc_x [g]",)]),
)


@given(
    augmentation=augmentations,
    n=st.integers(1, 4),
    steps=st.integers(1, 9),
    features=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_of_any_size_stay_windows(
    augmentation: Augmentation, n: int, steps: int, features: int, dtype: torch.dtype, seed: int
) -> None:
    x = torch.randn(n, steps, features, generator=seeded(seed)).to(dtype)
    before, names = x.clone(), CHANNELS[:features]
    once = augmented(x, augmentation, seed, names)
    assert torch.equal(x, before)
    assert (once.shape, once.dtype) == (x.shape, x.dtype)
    assert once.isfinite().all()
    assert torch.equal(augmented(x, augmentation, seed, names), once)


@given(augmentations)
def test_an_augmentation_survives_json(augmentation: Augmentation) -> None:
    assert Augmentation(**json.loads(json.dumps(asdict(augmentation)))) == augmentation


@given(augmentations | st.lists(augmentations, max_size=3).map(tuple))
def test_a_recipe_is_read_as_it_was_written(augmentation: Augmentation | tuple[Augmentation, ...]) -> None:
    recipe = Recipe("har", settings=Settings(augmentation=augmentation))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.toml")
        path.write_bytes(to_toml(recipe))
        assert read(path) == recipe
    assert json.loads(json.dumps(asdict(recipe.settings)))


ARRAY = """
[data]
id = "har"

[[train.augmentation]]
rotate = 0.25
time_warp = 0.2

[[train.augmentation]]
noise = 0.1
drop = 0.2
only = ["gyro"]
"""


def test_a_recipe_may_have_several_augmentations(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(ARRAY, "utf-8")
    assert read(path).settings.augmentation == (
        Augmentation(rotate=0.25, time_warp=0.2),
        Augmentation(noise=0.1, drop=0.2, only=("gyro",)),
    )
    document = load(path)
    with pytest.raises(TrainingError, match=r"augmentation is no table, so there is no train\.augmentation\.scale"):
        change(document, "train.augmentation.scale", 0.1)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ([{"rotate": 1}, {"flip": 1}], r"recipe \[\[train.augmentation\]\] no. 2: unknown flip; known are rotate"),
        ([{"rotate": -1}], r"recipe \[\[train.augmentation\]\] no. 1: rotate must be a number of at least 0"),
        ([1], "augmentation must be a table or an array of tables"),
        ("much", "augmentation must be a table or an array of tables"),
        ({"only": "acc"}, "only must be a list of patterns"),
    ],
)
def test_a_faulty_array_is_refused(augmentation: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        parse({"data": {"id": "har"}, "train": {"augmentation": augmentation}})


def test_settings_take_augmentations_and_nothing_else() -> None:
    assert Settings().augmentations == (Augmentation(),)
    assert Settings(augmentation=()).augmentations == ()
    others: list[Any] = [[Augmentation()], (Augmentation(), None), (0.1,)]
    for other in others:
        with pytest.raises(ValueError, match="augmentation must be an Augmentation or a tuple of them"):
            Settings(augmentation=other)


def test_several_augmentations_are_done_one_after_the_other(dataset: Dataset) -> None:
    def trained(*augmentation: Augmentation) -> dict[str, Tensor]:
        net = network()
        fit_quickly(net, dataset, epochs=1, augmentation=augmentation)
        return weights(net)

    acc = Augmentation(time_shift=0.2, noise=0.2, only=("acc",))
    gyro = Augmentation(time_warp=0.2, drop=0.3, time_masks=1, frequency_masks=1, only=("gyro",))
    both = trained(acc, gyro)
    assert same(both, trained(acc, gyro))
    assert not same(both, trained(gyro, acc))
    assert same(trained(acc), trained(acc, Augmentation()))


def test_a_pattern_that_fits_nothing_ends_the_training(dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="fits no channel"):
        fit_quickly(network(), dataset, epochs=1, augmentation=Augmentation(only=("mel_*",)))


NUMBERS = (-0.1, math.nan, math.inf, "0.1", True, None)


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        *((name, NUMBERS, "a number of at least 0") for name in ("rotate", "scale", "noise")),
        *((name, (*NUMBERS, 1.01), "a share of the window") for name in ("time_shift", "time_mask_width")),
        *((name, (*NUMBERS, 1.01), "a number from 0 to 1") for name in ("time_warp", "frequency_warp")),
        ("drop", (*NUMBERS, 1.01), "a probability"),
        *((name, (*NUMBERS, 1.0, 101), "a whole number from 0 to 100") for name in ("time_masks", "frequency_masks")),
        ("frequency_mask_width", (*NUMBERS, 2.0, -1), "a whole number of channels"),
        ("only", ("acc", None, [1], 5, {"acc": 1}), "a list of patterns"),
    ],
)
def test_an_impossible_augmentation_is_refused(name: str, values: tuple[Any, ...], wanted: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be {wanted}.*, not "):
            Augmentation(**{name: value})


def test_all_faults_of_an_augmentation_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"scale must be .*; drop must be .*; only must be "):
        Augmentation(scale=-1, drop=2, only="acc")  # type: ignore[arg-type]
