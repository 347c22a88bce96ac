"""libdevice for Triton's interpreter, which has none: its functions as torch computes them.

So an interpreted kernel tells nothing about the accuracy of libdevice on a GPU, only about the kernel.
"""
# mypy: ignore-errors

from __future__ import annotations

from types import SimpleNamespace

_TORCH = (
    "expm1", "log10", "log1p", "tanh", "erfc", "lgamma", "erfinv", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "asinh", "acosh", "atanh", "trunc", "copysign", "hypot", "nextafter", "pow", "atan2",
)
REFERENCES: dict[str, str] = {
    **{name: f"torch.{name}(*args)" for name in _TORCH},
    "nearbyint": "torch.round(*args)",
    "erfcx": "torch.special.erfcx(*args)", "normcdfinv": "torch.special.ndtri(*args)",
    "cyl_bessel_i0": "torch.special.i0(*args)", "cyl_bessel_i1": "torch.special.i1(*args)",
    # torch's own fmod gives NaN where the quotient overflows.
    "fmod": "torch.from_numpy(numpy.fmod(*(a.numpy() for a in args)))",
    "ilogb": "torch.frexp(*args)[1] - 1", "ldexp": "torch.ldexp(args[0].double(), args[1]).to(args[0].dtype)",
}
"""The functions that kernels call, as text over `args`, tensors of one shape."""


def evaluate(name: str, args):
    """A function of libdevice on torch tensors, which are broadcast."""
    import numpy
    import torch

    with numpy.errstate(invalid="ignore"):
        names = {"torch": torch, "numpy": numpy, "args": torch.broadcast_tensors(*args)}
        return eval(REFERENCES[name], names)


def _interpreted(name: str):
    def apply(*args):
        import torch
        import triton.language as tl
        from triton.runtime.interpreter import TensorHandle

        result = evaluate(name, [torch.from_numpy(a.handle.data) for a in args]).numpy()
        dtype = tl.int32 if name == "ilogb" else args[0].dtype
        blocks = any(a.type.is_block() for a in args)
        return tl.tensor(TensorHandle(result, dtype), tl.block_type(dtype, list(result.shape)) if blocks else dtype)

    return apply


libdevice = SimpleNamespace(**{name: _interpreted(name) for name in REFERENCES})
