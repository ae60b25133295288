"""Models of EdgeML (https://github.com/microsoft/EdgeML), in and out.

EdgeML's FastCells leave their models in three forms, none of which says all that is needed to run them again:

**A folder of .npy files**, which the trainers in TensorFlow and PyTorch write alike (``saveParams`` in fastTrainer.py).
Everything is ``x @ W``: W [D, H], U [H, H], biases [1, H], zeta, nu, alpha and beta [1, 1] before their sigmoid, FC
[H, L] and FCbias [L]. FastRNN and FastGRNN have one W, or W1 times W2; the cells with a matrix for each gate have W1,
W2, .. [D, H], or W [D, r] times each of W1, W2, .. [r, H]. Beside them lie mean and std of the training data, T D
numbers each, and ``command.txt``. The files do not say

- the nonlinearities, except where ``command.txt`` names them;
- the framework, on which the LSTM's order depends: W1 is the forget gate's in TensorFlow, the input gate's in PyTorch;
- whether FastGRNN's matrices are meant for ``x @ W.T``: they are in edgeml_pytorch 0.3.0 and in FastGRNNCUDA.

**A folder of q*.npy files**, made from the first by ``quantizeFastModels.py``: integers with one scale for W, U and B
together, one for FC and FCbias, and one for zeta, nu, alpha and beta, here after their sigmoid.

**A state dict** of edgeml_pytorch: of a cell, of a wrapper such as its ``FastGRNN``, or of a classifier of one to three
layers (``trainer/fastmodel.py``, the keyword spotting example), whose mean and std [D] lie beside it.
"""

from fastzoo.nn.edgeml.forms import Options
from fastzoo.nn.edgeml.reading import Imported, from_edgeml, read
from fastzoo.nn.edgeml.writing import to_edgeml

__all__ = ["Imported", "Options", "from_edgeml", "read", "to_edgeml"]
