"""Training: fit a classifier on windows, keep what validation subjects say is best."""

from fastzoo.errors import require

for _module in ("torch", "safetensors"):
    require(_module, extra="train", purpose="fastzoo.train")

from fastzoo.train.augment import Augmentation
from fastzoo.train.checkpoint import Checkpoint, load
from fastzoo.train.distillation import Distillation
from fastzoo.train.log import Epoch
from fastzoo.train.loop import Run, evaluate, fit, predict
from fastzoo.train.recipe import ModelConfig, Recipe
from fastzoo.train.seeds import fit_recipe
from fastzoo.train.settings import Settings
from fastzoo.train.sparsity import Sparsity

__all__ = [
    "Augmentation", "Checkpoint", "Distillation", "Epoch", "ModelConfig", "Recipe", "Run", "Settings", "Sparsity",
    "evaluate", "fit", "fit_recipe", "load", "predict",
]  # fmt: skip
