"""C++: the printers of `tile.kernel`s and of host programs, the tables of texts, and the headers of emitted files."""

from .host import Inexpressible, print_host
from .printer import FAILURES, print_file, print_files, print_kernel, supported_dtypes

__all__ = [
    "FAILURES", "Inexpressible", "print_file", "print_files", "print_host", "print_kernel", "supported_dtypes",
]
