"""Runs printed Triton kernels: `python triton_runner.py CASES RESULTS`, in a process of its own.

Triton's interpreter runs them where Triton is installed, `triton_stand_in` where it is not (or with ``--stand-in``).
CASES and RESULTS are files of torch.save: a list of (source, name, grid, arguments, keywords), and for each the buffers
afterwards, or the message of what went wrong.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch


def main(cases: str, results: str, *flags: str) -> None:
    if "--stand-in" in flags or importlib.util.find_spec("triton") is None:
        import triton_stand_in

        triton_stand_in.install()
    else:
        os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
        mend_interpreter()
    given = torch.load(cases, weights_only=False)
    done: list[object] = []
    with tempfile.TemporaryDirectory() as directory:
        for number, (source, name, grid, arguments, keywords) in enumerate(given):
            path = Path(directory) / f"kernel_{number}.py"  # Triton reads a kernel's source from its file
            path.write_text(source)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
                getattr(module, name)[(grid,)](*arguments, **keywords)
                done.append([a for a in arguments if isinstance(a, torch.Tensor)])
            except Exception as error:
                done.append(f"{type(error).__name__}: {error}")
    torch.save(done, results)


def mend_interpreter() -> None:
    """Let scalar conditions stay conditions where they mask blocks. Triton 3.9's interpreter gives a comparison its
    operands' type, and broadcasting a scalar one makes integers of it, which it then refuses as a mask."""
    import numpy
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_splat(self: Any, block: Any, value: Any) -> Any:
        return TensorHandle(numpy.full(block.shape, value.data.reshape(-1)[0]), value.dtype.scalar)

    InterpreterBuilder.create_splat = create_splat


if __name__ == "__main__":
    main(*sys.argv[1:])
