from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastzoo.data.hapt import CHANNELS
from fastzoo.train.augment import Augmentation, random_rotations, xyz_triples

N, T = 50, 7
TRIPLES = ((0, 1, 2), (3, 4, 5))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(channels: int = 6) -> Tensor:
    return torch.randn(N, T, channels, generator=seeded(9))


def augmented(x: Tensor, augmentation: Augmentation, seed: int = 0) -> Tensor:
    return augmentation(x, TRIPLES, torch.arange(1.0, 1 + x.shape[2]), seeded(seed))


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
    turned = Augmentation(rotate=0.5)(x, ((5, 1, 3),), torch.ones(8), seeded())
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
    "augmentation", [Augmentation(rotate=0.3), Augmentation(scale=0.3), Augmentation(noise=0.3), Augmentation(1, 1, 1)]
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
    assert torch.equal(Augmentation(rotate=0.3)(x, (), torch.ones(6), seeded()), x)


@pytest.mark.parametrize(
    ("channels", "triples"),
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
def test_axes_are_found_by_name(channels: tuple[str, ...], triples: tuple[tuple[int, int, int], ...]) -> None:
    assert xyz_triples(channels) == triples


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


@pytest.mark.parametrize("name", ["rotate", "scale", "noise"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", True, None])
def test_an_impossible_augmentation_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number of at least 0, not "):
        Augmentation(**{name: value})  # type: ignore[arg-type]
