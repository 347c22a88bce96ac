"""Triton kernels: the printer of `tile.kernel`s made for a GPU, the tables of texts, and building without a GPU."""

from .printer import TritonKernel, print_kernel

__all__ = ["TritonKernel", "print_kernel"]
