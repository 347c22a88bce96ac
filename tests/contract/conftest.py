"""What the tests of the contract share: each begins with nothing compiled."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()
