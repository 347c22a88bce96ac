"""Python programs for the tests of processes: a model that is compiled, and the text of what runs it."""

from __future__ import annotations

import os
import subprocess
import sys

# What every program begins with. `fresh` gives a model that nothing has compiled; `check` calls one and compares.
PRELUDE = """
import os, random, signal, sys, threading, time
import torch, tilewright

X = torch.linspace(-2, 2, 64 * 96).view(64, 96)

def fresh(factor):
    weight = torch.linspace(-1, 1, 96 * 96).view(96, 96)
    def model(x):
        return torch.softmax(x @ weight * factor, -1) + torch.tanh(x) * factor
    return model

def check(call, model, x=X):
    torch.testing.assert_close(call(x), model(x), rtol=1e-5, atol=1e-5)

def compiled(model):
    return torch.compile(model, backend="tilewright", options={"fallback": "error"})
"""


def run(program: str, *, timeout: float = 300, **environment: str) -> str:
    """Run PRELUDE and `program` in a process of their own; what it prints. Fails where it does, or takes too long."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + program], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def start(program: str, **environment: str) -> subprocess.Popen[str]:
    """As `run`, without waiting: input and output are pipes."""
    return subprocess.Popen([sys.executable, "-c", PRELUDE + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
