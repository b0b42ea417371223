import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from clock import Clock
from torch import Tensor, nn

import odenas.space
from odenas.nets.residual import Stage

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test sets, in place of the machine's."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


class Constant(nn.Module):
    """A right-hand side that is the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


def stage_of_given_branches(
    noise: str, rates: Sequence[float], branches: Sequence[Sequence[nn.Module | float]]
) -> Stage:
    """Return a training stage of one channel, with a seed for its noise.

    Args:
        noise: a row of NOISES.
        rates: of the blocks.
        branches: a row for each block, of which the first has one; a number is a right-hand side that is constant.
    """
    stage = Stage(1, 1, 1, [len(row) for row in branches], rates, noise=noise)
    first, *later = [nn.ModuleList(f if isinstance(f, nn.Module) else Constant(f) for f in row) for row in branches]
    stage.first, stage.blocks = first[0], nn.ModuleList(later)
    torch.manual_seed(0)
    return stage


@pytest.fixture
def stage_of() -> Callable[..., Stage]:
    return stage_of_given_branches
