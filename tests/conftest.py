"""What all tests share: a cache of their own, and which tests run when."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Nothing is asserted by a timing: on a busy machine an example may take long.
settings.register_profile("tilewright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tilewright")


# Programs that torch keeps from run to run know nothing of what a test replaces: tests of that cache switch it on.
os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"

# pytest listens to every logger, and where somebody listens to this one torch prints each graph that it traces: work
# that nobody reads.
logging.getLogger("torch.__trace").addHandler = lambda handler: None  # type: ignore[method-assign]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files with what is printed now")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked slow run with ``--slow``, those marked slow or exhaustive where ``-m`` names them."""
    asked = config.getoption("-m")
    wanted = {"slow": config.getoption("--slow") or "slow" in asked, "exhaustive": "exhaustive" in asked}
    for marker in (name for name, is_wanted in wanted.items() if not is_wanted):
        skip = pytest.mark.skip(reason=f"{marker}: run with -m {marker}")
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def no_build_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """A user's model runs in ATen where its kernels do not build; a test that has not asked for that fails."""
    with pytest.MonkeyPatch.context() as patch:
        if "build_failure" not in request.keywords and (fallback := sys.modules.get("tilewright.fallback")):
            patch.setattr(fallback, "BUILD_FAILURES", ())
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Built kernels go to a folder of the session, so that no test finds what an earlier version left.

    A folder that the caller names in TILEWRIGHT_TEST_CACHE_DIR is used instead, and kept.
    """
    kept = os.environ.get("TILEWRIGHT_TEST_CACHE_DIR")
    path = Path(kept) if kept else tmp_path_factory.mktemp("cache")
    before = os.environ.get("TILEWRIGHT_CACHE_DIR")
    os.environ["TILEWRIGHT_CACHE_DIR"] = str(path)
    yield path
    if before is None:
        del os.environ["TILEWRIGHT_CACHE_DIR"]
    else:
        os.environ["TILEWRIGHT_CACHE_DIR"] = before
