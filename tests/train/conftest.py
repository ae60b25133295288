from __future__ import annotations

import pytest
import torch

from fastzoo.data import Dataset

from . import task

torch.set_num_threads(1)  # on a busy machine a second thread makes small products many times slower


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return task.motions()
