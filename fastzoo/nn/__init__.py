"""FastCells in torch."""

from fastzoo.errors import require

require("torch", extra="train", purpose="fastzoo.nn")

from fastzoo.nn.classifier import CELLS, SequenceClassifier
from fastzoo.nn.fastgrnn import FastGRNN, FastGRNNCell
from fastzoo.nn.functional import NONLINEARITIES

__all__ = ["CELLS", "NONLINEARITIES", "FastGRNN", "FastGRNNCell", "SequenceClassifier"]
