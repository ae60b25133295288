"""FastCells in torch."""

from fastzoo.errors import require

require("torch", extra="train", purpose="fastzoo.nn")

from fastzoo.nn.classifier import CELLS, SequenceClassifier  # noqa: E402
from fastzoo.nn.fastgrnn import FastGRNN, FastGRNNCell  # noqa: E402
from fastzoo.nn.functional import NONLINEARITIES  # noqa: E402

__all__ = ["CELLS", "NONLINEARITIES", "FastGRNN", "FastGRNNCell", "SequenceClassifier"]
