"""One thread: on a busy machine a second one makes small products many times slower."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
