from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import odenas.space

# With another checkout's environment the tests would test that checkout, and pass.
ROOT = Path(__file__).resolve().parents[1]
FOUND = Path(odenas.space.__file__ or "").resolve()
if not FOUND.is_relative_to(ROOT) and "site-packages" not in FOUND.parts:
    raise RuntimeError(f"`odenas` comes from {FOUND.parents[1]}, not {ROOT}")


@pytest.fixture(autouse=True, scope="module")
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks as small as those of tests/nets are many times slower where threads wait for one another."""
    threads = torch.get_num_threads()
    if request.path.parent.name == "nets":
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
