"""The logger. `TORCH_LOGS="tilewright"` shows what was compiled, `TORCH_LOGS="+tilewright"` each decision too.

TORCH_LOGS takes the name of any importable package, and sets the level of the logger of that name.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("tilewright")


def log_compilation(name: str, compilation: Any) -> None:
    """Tell the log about a finished compilation: a summary, then (at debug level) kernels, fallbacks and decisions."""
    if not log.isEnabledFor(logging.INFO):
        return
    kernels, fallbacks = compilation.kernels, compilation.fallbacks
    log.info("%s: %d kernels, %d calls left to ATen, %.2f s",
             name, len(kernels), sum(f["count"] for f in fallbacks), sum(compilation.seconds.values()))
    if not log.isEnabledFor(logging.DEBUG):
        return
    for kernel in kernels:
        log.debug("kernel %s (%s) of %s", kernel.name, kernel.kind, ", ".join(kernel.lines) or "unknown lines")
    for row in fallbacks:
        log.debug("ATen: %s x%d: %s", row["op"], row["count"], row["reason"])
    for remark in compilation.remarks:
        log.debug("%s %s: %s %s", remark.pass_name, remark.kind, remark.message, " ".join(remark.lines))
