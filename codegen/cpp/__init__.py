"""C++ kernels: the printer of `tile.kernel`s, the tables of texts, and the header that emitted files include."""

from .printer import FAILURES, print_file, print_files, print_kernel, supported_dtypes

__all__ = ["FAILURES", "print_file", "print_files", "print_kernel", "supported_dtypes"]
