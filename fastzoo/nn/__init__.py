"""FastCells in torch."""

from fastzoo.errors import require

require("torch", extra="train", purpose="fastzoo.nn")

from fastzoo.nn.cell import Cell
from fastzoo.nn.cells import FastGRNNCell, FastRNNCell, GRUCell, LSTMCell, UGRNNCell
from fastzoo.nn.classifier import SequenceClassifier
from fastzoo.nn.edgeml import from_edgeml, to_edgeml
from fastzoo.nn.nonlinearities import NONLINEARITIES
from fastzoo.nn.published import from_bundle, seeds_from_bundle
from fastzoo.nn.sequence import CELLS, GRU, LSTM, UGRNN, FastGRNN, FastRNN, Recurrent
from fastzoo.nn.size import ModelSize, model_size

__all__ = [
    "CELLS", "GRU", "LSTM", "NONLINEARITIES", "UGRNN", "Cell", "FastGRNN", "FastGRNNCell", "FastRNN", "FastRNNCell",
    "GRUCell", "LSTMCell", "ModelSize", "Recurrent", "SequenceClassifier", "UGRNNCell",
    "from_bundle", "from_edgeml", "model_size", "seeds_from_bundle", "to_edgeml",
]  # fmt: skip
