"""Training: fit a classifier on windows, keep what validation subjects say is best."""

from fastzoo.errors import require

for _module in ("torch", "safetensors"):
    require(_module, extra="train", purpose="fastzoo.train")

from fastzoo.train.augment import Augmentation  # noqa: E402
from fastzoo.train.checkpoint import Checkpoint, load  # noqa: E402
from fastzoo.train.loop import Epoch, Run, evaluate, fit, predict  # noqa: E402
from fastzoo.train.recipe import ModelConfig, Recipe  # noqa: E402
from fastzoo.train.seeds import fit_recipe  # noqa: E402
from fastzoo.train.settings import Settings  # noqa: E402

__all__ = [
    "Augmentation", "Checkpoint", "Epoch", "ModelConfig", "Recipe", "Run", "Settings", "evaluate", "fit", "fit_recipe",
    "load", "predict",
]  # fmt: skip
