"""A multigrid cycle with its weights set by hand solves Poisson's equation as the textbooks say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from odenas.nets.multigrid import Cycle
from odenas.nets.weights import EULER, Step

Matrix = NDArray[np.float64]
OMEGA = {1: 2 / 3, 2: 4 / 5}


def stencil(dimensions: int) -> Matrix:
    """−Δ times h², 3 or 5 points."""
    if dimensions == 1:
        return np.array([-1.0, 2, -1])
    return np.array([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])


def depth(n: int) -> int:
    """The levels from n = 2^k − 1 points down to one."""
    return (n + 1).bit_length() - 1


def by_hand(
    dimensions: int, n: int, levels: int, before: int = 2, after: int = 1, gamma: int = 1, exact: bool = True
) -> Cycle:
    """The cycle of −Δ on the unit interval or square, h = 1 / (n + 1); a single point at last is solved exactly."""
    counts = [before] * (levels - 1) + [1] + [after] * (levels - 1)
    rows = [[1] * count for count in counts]
    rates = [[0.0] * count for count in counts]
    cycle = Cycle([1] * len(rows), rows, rates, tying="steps", corrector="linear", transfer="vertex", gamma=gamma,
                  dimensions=dimensions).double()  # fmt: skip
    with torch.no_grad():
        for i, level in enumerate(cycle.levels):
            laplacian: Any = level
            h = 2**i / (n + 1)
            last = i == levels - 1
            laplacian.operator.weight.copy_(torch.from_numpy(stencil(dimensions)) / h**2)
            laplacian.correctors[0].weight.zero_()
            centre = (0, 0) + (1,) * dimensions
            omega = 1.0 if last and exact else OMEGA[dimensions]
            laplacian.correctors[0].weight[centre] = omega * h**2 / (2 * dimensions)
    return cycle


class Solve(nn.Module):
    """B = A⁻¹."""

    def __init__(self, A: Matrix) -> None:
        super().__init__()
        self.A = torch.from_numpy(A)

    def forward(self, residual: Tensor) -> Tensor:
        flat: Tensor = torch.linalg.solve(self.A, residual.flatten(1).T).T
        return flat.reshape(residual.shape)


# Dense matrices, from the definitions: Briggs, Henson and McCormick, A Multigrid Tutorial, 2000, chapter 3.


def laplace(dimensions: int, n: int, h: float) -> Matrix:
    line: Matrix = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) / h**2
    return line if dimensions == 1 else np.kron(line, np.eye(n)) + np.kron(np.eye(n), line)


def interpolation(dimensions: int, n: int) -> Matrix:
    m = (n - 1) // 2
    line: Matrix = np.zeros((n, m))
    for j in range(m):
        line[2 * j : 2 * j + 3, j] = 1 / 2, 1, 1 / 2
    return line if dimensions == 1 else np.kron(line, line).astype(np.float64)


def plain_cycle(
    dimensions: int, sizes: Sequence[int], before: Sequence[Step], after: Sequence[Step], gamma: int
) -> Callable[[Matrix, Matrix], Matrix]:
    """The linear correction scheme in numpy on columns: the coarser grids know of errors and residuals alone."""

    def smooth(A: Matrix, h: float, u: Matrix, f: Matrix, steps: Sequence[Step]) -> Matrix:
        states: list[Matrix] = [u]
        for step in steps:
            slope = OMEGA[dimensions] * h**2 / (2 * dimensions) * (f - A @ states[0])
            new = float(step.B[0]) * slope
            for v, x in zip(step.V, states, strict=False):
                new = np.asarray(new + float(v) * x)
            states.insert(0, new)
        return states[0]

    def visit(level: int, u: Matrix, f: Matrix) -> Matrix:
        n, h = sizes[level], 2**level / (sizes[0] + 1)
        A = laplace(dimensions, n, h)
        if level == len(sizes) - 1:
            return np.asarray(np.linalg.solve(A, f))
        u = smooth(A, h, u, f, before)
        P = interpolation(dimensions, n)
        restricted = P.T / 2**dimensions @ (f - A @ u)
        error = np.zeros_like(restricted)
        for _ in range(gamma if level + 2 < len(sizes) else 1):
            error = visit(level + 1, error, restricted)
        return smooth(A, h, u + P @ error, f, after)

    return lambda u, f: visit(0, u, f)


def random(dimensions: int, n: int, batch: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, *[n] * dimensions, dtype=torch.float64, generator=generator)


def columns(u: Tensor) -> Matrix:
    return np.asarray(u.flatten(1).T.numpy())


def factor(
    cycle: Cycle, dimensions: int, n: int, steps: Sequence[Sequence[Step]] = (), start: str = "euler", cycles: int = 30
) -> float:
    """The asymptotic convergence factor: how much smaller a cycle makes the error in the end, f = 0."""
    u = random(dimensions, n, 1)
    with torch.no_grad():
        for _ in range(cycles):
            u = u / u.norm()
            u = cycle(u, torch.zeros_like(u), steps or [[]] * (2 * len(cycle.levels) - 1), start)
    return float(u.norm())


@pytest.mark.parametrize("gamma", [1, 2])
@pytest.mark.parametrize(("dimensions", "n", "levels"), [(1, 15, 4), (1, 31, 5), (2, 7, 3), (2, 15, 4)])
def test_the_cycle_is_the_linear_correction_scheme(dimensions: int, n: int, levels: int, gamma: int) -> None:
    """FAS on a linear problem gives the same, whatever u and f are: a numpy cycle of dense matrices says so."""
    u, f = random(dimensions, n), 100 * random(dimensions, n, seed=1)
    sizes = [(n + 1) // 2**i - 1 for i in range(levels)]
    expected = plain_cycle(dimensions, sizes, [EULER] * 2, [EULER], gamma)(columns(u), columns(f))
    with torch.no_grad():
        found = columns(by_hand(dimensions, n, levels, gamma=gamma)(u, f, [[]] * (2 * levels - 1)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_state_restriction_has_no_part_in_a_linear_cycle(dimensions: int) -> None:
    u, f = random(dimensions, 15), 100 * random(dimensions, 15, seed=1)
    cycle = by_hand(dimensions, 15, 4)
    with torch.no_grad():
        before = cycle(u, f, [[]] * 7)
        for restriction in cycle.state_restrictions:
            restriction.weight.normal_()  # type: ignore[operator]
        after = cycle(u, f, [[]] * 7)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12 * float(before.abs().max()))


def two_grid_factor(frequencies: NDArray[np.float64], smoothing: int, omega: float) -> float:
    """The two-grid factor by Fourier analysis; frequencies (count, dimensions) are low ones, |θ| < π/2, not 0.

    The 2^d harmonics of a low frequency mix; symbols as in Trottenberg, Oosterlee and Schüller, Multigrid, 2001,
    chapter 4: full weighting and interpolation Π (1 + cos θ)/2 both, A Σ (2 − 2 cos θ)/h².
    """
    dimensions = frequencies.shape[1]
    shifts = np.pi * np.array(list(product((0, 1), repeat=dimensions)))
    largest = 0.0
    for theta in frequencies:
        harmonics = theta + shifts
        A = (2 - 2 * np.cos(harmonics)).sum(1)
        transfer = ((1 + np.cos(harmonics)) / 2).prod(1)
        coarse = (2 - 2 * np.cos(2 * theta)).sum() / 4
        correction = np.eye(len(A)) - np.outer(transfer, transfer * A) / coarse
        smoother = np.diag((1 - omega * A / (2 * dimensions)) ** smoothing)
        largest = max(largest, np.abs(np.linalg.eigvals(correction @ smoother)).max())
    return largest


def sines(dimensions: int, n: int) -> NDArray[np.float64]:
    """The low frequencies of the eigenvectors of −Δ on n points, zeros around."""
    line = np.arange(1, (n + 1) // 2) * np.pi / (n + 1)
    return np.array(list(product(line, repeat=dimensions)))


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 2), (1, 1), (2, 1)])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_two_grid_factor_is_that_of_fourier_analysis(dimensions: int, before: int, after: int) -> None:
    """To ten digits on the finite grid, whose sines are what the analysis speaks of."""
    n, omega, smoothing = 15, OMEGA[dimensions], before + after
    cycle = by_hand(dimensions, n, 2, before, after)
    coarsest: Any = cycle.levels[1]
    coarsest.correctors[0] = Solve(laplace(dimensions, 7, 2 / (n + 1)))
    units = torch.eye(n**dimensions, dtype=torch.float64).view(-1, 1, *[n] * dimensions)
    with torch.no_grad():
        matrix = columns(cycle(units, torch.zeros_like(units), [[]] * 3))
    found = np.abs(np.linalg.eigvals(matrix)).max()
    # Sines of frequency π/2 vanish on the coarser grid: nothing but the smoother acts on them.
    line = np.arange(1, n + 1) * np.pi / (n + 1)
    unseen = np.array([theta for theta in product(line, repeat=dimensions) if np.isclose(theta, np.pi / 2).any()])
    smoothed = np.abs(1 - omega * (1 - np.cos(unseen)).mean(1)) ** smoothing
    expected = max(two_grid_factor(sines(dimensions, n), smoothing, omega), smoothed.max())
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("smoothing", "published"), [(1, 0.600), (2, 0.360), (3, 0.216), (4, 0.137)])
def test_the_analysis_gives_the_published_factors(smoothing: int, published: float) -> None:
    """Of damped Jacobi, ω = 4/5, in two dimensions (Trottenberg, Oosterlee and Schüller, 2001, chapter 4)."""
    assert two_grid_factor(sines(2, 63), smoothing, 4 / 5) == pytest.approx(published, abs=0.003)


# V(2, 1) with damped Jacobi. The two-grid factors are 0.099 and 0.216: a V-cycle solves the coarser grid less well.
SIZES = [(1, n, 0.12) for n in (15, 31, 63, 127, 255)] + [(2, n, 0.24) for n in (15, 31, 63)]


@pytest.mark.parametrize(("dimensions", "n", "most"), SIZES)
def test_a_v_cycle_converges_as_fast_on_every_grid(dimensions: int, n: int, most: float) -> None:
    """h-independence: from the finest grid down to a single point, the factor is near that of two grids."""
    found = factor(by_hand(dimensions, n, depth(n)), dimensions, n)
    assert 0.9 * two_grid_factor(sines(dimensions, 31), 3, OMEGA[dimensions]) < found < most


@pytest.mark.parametrize(("dimensions", "n"), [(1, 127), (2, 31)])
def test_a_w_cycle_converges_as_two_grids_do(dimensions: int, n: int) -> None:
    two = two_grid_factor(sines(dimensions, n), 3, OMEGA[dimensions])
    w = factor(by_hand(dimensions, n, depth(n), gamma=2), dimensions, n)
    assert w == pytest.approx(two, rel=0.03)
    assert w < factor(by_hand(dimensions, n, depth(n)), dimensions, n)


@pytest.mark.parametrize(("dimensions", "n", "cycles"), [(1, 255, 12), (2, 63, 18)])
def test_poisson_is_solved(dimensions: int, n: int, cycles: int) -> None:
    """To eleven digits of the discrete solution, from zero."""
    x = np.arange(1, n + 1) / (n + 1)
    line = np.exp(x) * (1 - x) * x
    exact = torch.from_numpy(line if dimensions == 1 else np.outer(line, np.sin(3 * x)))[None, None]
    cycle = by_hand(dimensions, n, depth(n))
    finest: Any = cycle.levels[0]
    with torch.no_grad():
        f = finest.operator(exact)
        u = torch.zeros_like(exact)
        for _ in range(cycles):
            u = cycle(u, f, [[]] * (2 * depth(n) - 1))
    assert float((u - exact).norm() / exact.norm()) < 1e-11


@pytest.mark.parametrize(("dimensions", "n", "most"), [(1, 63, 0.13), (2, 31, 0.25)])
def test_a_new_linear_cycle_is_born_as_the_solver(dimensions: int, n: int, most: float) -> None:
    """Nothing set by hand but that the coarsest grid, a single point, gets steps enough."""
    levels = depth(n)
    rows = [[1] * 2] * (levels - 1) + [[1] * 10] + [[1]] * (levels - 1)
    rates = [[0.0] * len(row) for row in rows]
    cycle = Cycle([2] * len(rows), rows, rates, corrector="linear", transfer="vertex", dimensions=dimensions).double()
    u = random(dimensions, n, 2).view(1, 2, *[n] * dimensions)
    with torch.no_grad():
        for _ in range(30):
            u = u / u.norm()
            u = cycle(u, torch.zeros_like(u), [[]] * len(rows))
    assert float(u.norm()) < most


@pytest.mark.parametrize(("levels", "least", "most"), [(2, 0.25, 0.32), (3, 0.55, 0.62), (6, 0.95, 1.1)])
def test_cells_converge_on_few_levels_alone(levels: int, least: float, most: float) -> None:
    """What the docstring of `Cycle` says of 32 × 32 cells, the coarsest grid solved exactly."""
    rows = [[1] * 2] * (levels - 1) + [[1]] * levels
    rates = [[0.0] * len(row) for row in rows]
    cycle = Cycle([1] * len(rows), rows, rates, corrector="linear", tying="steps").double()
    coarsest: Any = cycle.levels[-1]
    coarsest.correctors[0] = Solve(laplace(2, 32 // 2 ** (levels - 1), 2.0 ** (levels - 1)))
    assert least < factor(cycle, 2, 32) < most


# A two-step smoother: any tableau will do.

HEAVY_BALL = Step((1.3, -0.3), (0.0,), (1.0,), ((0.0,),), ((1.0, 0.0),), ((0.0,),))


@pytest.mark.parametrize(("dimensions", "n", "levels"), [(1, 31, 5), (2, 15, 4)])
def test_a_two_step_smoother_is_its_recursion(dimensions: int, n: int, levels: int) -> None:
    """Momentum, a forward Euler step first and history begun anew after the coarser grids; and it converges."""
    u, f = random(dimensions, n), 100 * random(dimensions, n, seed=1)
    cycle = by_hand(dimensions, n, levels, 3, 2)
    steps = [[HEAVY_BALL] * 2] * (levels - 1) + [[]] + [[HEAVY_BALL]] * (levels - 1)
    sizes = [(n + 1) // 2**i - 1 for i in range(levels)]
    plain = plain_cycle(dimensions, sizes, [EULER, HEAVY_BALL, HEAVY_BALL], [EULER, HEAVY_BALL], 1)
    expected = plain(columns(u), columns(f))
    with torch.no_grad():
        found = cycle(u, f, steps)
        np.testing.assert_allclose(columns(found), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
        error = u
        for _ in range(12):
            error = cycle(error, torch.zeros_like(u), steps)
    assert float(error.norm() / u.norm()) < 0.5**12


@pytest.mark.parametrize(("dimensions", "n", "euler", "fsi"), [(1, 63, 0.072, 0.036), (2, 31, 0.156, 0.100)])
def test_a_fast_semi_iterative_smoother_beats_damped_jacobi(dimensions: int, n: int, euler: float, fsi: float) -> None:
    """Measured: with as many evaluations, at the step size that is the limit of the explicit scheme, undamped.

    FSI of Hafner, Ochs, Weickert, Reissel and Grewenig, 2016: weights (α, 1 − α) with α = (4l + 2) / (2l + 3), from
    u_{−1} = u_0 in each stage.
    """
    levels = depth(n)
    assert factor(by_hand(dimensions, n, levels, 3, 2), dimensions, n) == pytest.approx(euler, abs=0.003)
    cycle = by_hand(dimensions, n, levels, 3, 2)
    with torch.no_grad():
        for level in list(cycle.levels)[:-1]:
            level.correctors[0].weight /= OMEGA[dimensions]  # type: ignore[index, union-attr]
    alphas = [(4 * step + 2) / (2 * step + 3) for step in range(3)]
    steps = [Step((a, 1 - a), (0.0,), (a,), ((0.0,),), ((1.0, 0.0),), ((0.0,),)) for a in alphas]
    stages = [steps] * (levels - 1) + [[]] + [steps[:2]] * (levels - 1)
    assert factor(cycle, dimensions, n, stages, "copy") == pytest.approx(fsi, abs=0.003)


class Bratu(nn.Module):
    """A(u) = −u″ + γ u e^u, the problem of Briggs, Henson and McCormick, chapter 6, in one dimension."""

    def __init__(self, linear: nn.Module, strength: float) -> None:
        super().__init__()
        self.linear, self.strength = linear, strength

    def forward(self, u: Tensor) -> Tensor:
        result: Tensor = self.linear(u) + self.strength * u * u.exp()
        return result


@pytest.mark.parametrize("strength", [1.0, 10.0, 50.0])
def test_a_nonlinear_equation_is_solved(strength: float) -> None:
    """What the full approximation scheme is for: the coarser grids must know u itself."""
    n, levels = 63, 6
    cycle = by_hand(1, n, levels)
    with torch.no_grad():
        for i, each in enumerate(cycle.levels):
            level: Any = each
            h = 2**i / (n + 1)
            level.operator = Bratu(level.operator, strength)
            level.correctors[0].weight[0, 0, 1] = (1 if i == levels - 1 else 2 / 3) / (2 / h**2 + 1.5 * strength)
        x = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
        exact = (x - x**2)[None, None] * 1.5
        finest: Any = cycle.levels[0]
        f, u = finest.operator(exact), torch.zeros(1, 1, n, dtype=torch.float64)
        for _ in range(20):
            u = cycle(u, f, [[]] * (2 * levels - 1))
        assert float((u - exact).norm() / exact.norm()) < 1e-10
        # A solution stays what it is.
        torch.testing.assert_close(cycle(exact, f, [[]] * (2 * levels - 1)), exact, rtol=0, atol=1e-13)
