"""C++: the printers of `tile.kernel`s and of host programs, the tables of texts, and the headers of emitted files."""

from .host import Inexpressible, print_host
from .printer import FAILURES, print_file, print_files, print_kernel, supported_dtypes
from .schedule import KNOBS, NEVER, Knob, Schedule

__all__ = [
    "FAILURES", "KNOBS", "NEVER", "Inexpressible", "Knob", "Schedule", "print_file", "print_files", "print_host",
    "print_kernel", "supported_dtypes",
]
