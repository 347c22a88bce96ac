"""Training on two processes with gloo: the weights are eager's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("distributed_training.py")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes(kind, tmp_path):
    running = [
        subprocess.Popen([sys.executable, str(PROGRAM), kind, str(tmp_path / "store"), str(rank)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env={**os.environ, "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    for process in running:
        printed, errors = process.communicate(timeout=300)
        # Not the exit status: threads of gloo can still be running when the interpreter ends, and abort it.
        assert "the same" in printed, errors[-3000:]
