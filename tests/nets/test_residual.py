"""Networks against the recurrences of the papers written out by hand, and against linear algebra."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets import SchemeNetwork, build
from odenas.nets.coefficients import LearnedWeights, plain_table
from odenas.nets.residual import Stage
from odenas.nets.weights import Step, TableWeights, reach
from odenas.space import Coefficients, OdenasError, Scheme, Tableau, scheme, schemes
from odenas.space.integrate import integrate

Field = Callable[[Tensor], Tensor]
Recurrence = Callable[[Tensor, Tensor, Tensor, list[Field], Any], Tensor]


def randomised(value: Scheme, seed: int = 0) -> SchemeNetwork:
    """Return a network in evaluation mode and float64 in which nothing has the value it starts with."""
    torch.manual_seed(seed)
    network = build(value, depth=32, width=4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    if isinstance(network.weights, LearnedWeights):
        for coordinate in network.weights.coordinates:
            nn.init.uniform_(coordinate, -0.8, 0.8)
    return network.double().eval()


def last(stage: Any, x: Tensor, steps: Sequence[Step], start: str) -> Tensor:
    """Return the state after a stage whose history begins with x."""
    states: list[Tensor] = stage([x], steps, start, reach(steps))
    return states[0]


# The parts of a network, written out.


def activated(norm: Any, x: Tensor) -> Tensor:
    """Return ReLU(BN(x)) in evaluation mode."""
    mean, variance, weight, bias = (
        v.view(1, -1, 1, 1) for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return ((x - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)  # type: ignore[no-any-return]


def field(module: Any, stride: int = 1) -> Field:
    """Return f, BN-ReLU-conv-BN-ReLU-conv."""

    def f(x: Tensor) -> Tensor:
        y = functional.conv2d(activated(module.norm1, x), module.conv1.weight, stride=stride, padding=1)
        return functional.conv2d(activated(module.norm2, y), module.conv2.weight, padding=1)

    return f


def projected(shortcut: Any, x: Tensor) -> Tensor:
    """Return the 1×1 convolution of every second pixel of ReLU(BN(x))."""
    return torch.einsum("oi,bihw->bohw", shortcut.conv.weight[:, :, 0, 0], activated(shortcut.norm, x)[..., ::2, ::2])


# The recurrences inside a stage: x after its first block, p and f_0 from which x = p + f_0, the fields, learned values.


def euler(x: Tensor, p: Tensor, f0: Tensor, fields: list[Field], learned: Any) -> Tensor:
    for f in fields:
        x = x + f(x)
    return x


def lm(x: Tensor, p: Tensor, f0: Tensor, fields: list[Field], learned: Any) -> Tensor:
    previous = p
    for f, k in zip(fields, learned[0], strict=True):
        x, previous = (1 - k) * x + k * previous + f(x), x
    return x


def midpoint(x: Tensor, p: Tensor, f0: Tensor, fields: list[Field], learned: Any) -> Tensor:
    previous = p
    for f in fields:
        x, previous = previous + 2 * f(x), x
    return x


def ab2(x: Tensor, p: Tensor, f0: Tensor, fields: list[Field], learned: Any) -> Tensor:
    older = f0
    for f in fields:
        slope = f(x)
        x, older = x + 3 / 2 * slope - 1 / 2 * older, slope
    return x


def ab3(x: Tensor, p: Tensor, f0: Tensor, fields: list[Field], learned: Any) -> Tensor:
    oldest, older = f0, fields[0](x)
    x = x + older
    for f in fields[1:]:
        slope = f(x)
        x, oldest, older = x + 23 / 12 * slope - 4 / 3 * older + 5 / 12 * oldest, older, slope
    return x


def momentum(x: Tensor, p: Tensor, f0: Tensor, fields: list[Field], learned: Any) -> Tensor:
    velocity = torch.zeros_like(x)
    for f in fields:
        velocity = 0.9 * velocity + 0.1 * f(x)
        x = x + velocity
    return x


RECURRENCES: dict[str, Recurrence] = {
    "euler": euler,
    "lm": lm,
    "midpoint": midpoint,
    "ab2": ab2,
    "ab3": ab3,
    "momentum": momentum,
}


@pytest.mark.parametrize("name", RECURRENCES)
@torch.no_grad()
def test_a_network_is_the_recurrence_of_its_paper(name: str) -> None:
    network: Any = randomised(scheme(name))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    x = functional.conv2d(images, network.stem.weight, padding=1)
    for index, stage in enumerate(network.stages):
        f0 = field(stage.first, 2 if index else 1)(x)
        p = projected(stage.shortcut, x) if index else x
        fields = [field(branches[0]) for branches in stage.blocks]
        learned = network.weights.coordinates[index].double() if name == "lm" else None
        expected = RECURRENCES[name](p + f0, p, f0, fields, learned)
        assert relative(last(stage, x, network.weights(index, x.dtype), network.start), expected) < 1e-12
        x = expected
    pooled = activated(network.norm, x).mean((2, 3))
    assert relative(network(images), pooled @ network.head.weight.T + network.head.bias) < 1e-12


def relative(x: Tensor, expected: Tensor) -> float:
    assert x.shape == expected.shape
    return float((x - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def test_the_step_to_another_stage_forgets_the_history() -> None:
    """What x_{n−1} was before the shape changes plays no part after it: only the projected state does."""
    network: Any = randomised(scheme("lm"))
    stage, weights = network.stages[1], network.weights(1, torch.float64)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    p, f0 = projected(stage.shortcut, x), field(stage.first, 2)(x)
    one, k = weights[:1], network.weights.coordinates[1][0, 0].double()
    stage.blocks, stage.count = stage.blocks[:1], 2
    expected = (1 - k) * (p + f0) + k * p + field(stage.blocks[0][0])(p + f0)
    torch.testing.assert_close(last(stage, x, one, "euler"), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_momentum_agrees_with_the_package_of_its_authors() -> None:
    momentumnet = pytest.importorskip("momentumnet")
    network: Any = randomised(scheme("momentum"))
    stage = network.stages[0]
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    first = x + stage.first(x)
    peer = momentumnet.MomentumNet([branches[0] for branches in stage.blocks], gamma=0.9, init_speed=False)
    assert relative(last(stage, x, network.weights(0, x.dtype), "copy"), peer(first)) < 1e-12


# With f(y) = zy everything is linear, and a scheme is read off its network.


class Linear(nn.Module):
    """The right-hand side f(y) = zy."""

    def __init__(self, z: float) -> None:
        super().__init__()
        self.z = z

    def forward(self, y: Tensor) -> Tensor:
        return self.z * y


def linear_stage(first: float, z: Sequence[Sequence[float]]) -> Stage:
    """Return a stage without a change of shape whose branches are multiplications by these numbers."""
    stage = Stage(1, 1, 1, [1, *map(len, z)], [0.0] * (len(z) + 1))
    stage.first = Linear(first)
    stage.blocks = nn.ModuleList(nn.ModuleList(map(Linear, row)) for row in z)
    return stage.double()


def seen(value: Scheme, first: float, z: Sequence[Sequence[float]]) -> float:
    """Return the last state of a stage of linear branches that starts from 1."""
    steps = len(z) - (max(0, value.tableau.steps - 2) if value.start == "euler" else 0)
    weights = TableWeights(plain_table(value), [steps])(0, torch.float64)
    return float(last(linear_stage(first, z), torch.ones(1, 1, 1, 1, dtype=torch.float64), weights, value.start))


def expected_of(value: Scheme, first: float, z: Sequence[Sequence[float]]) -> Fraction:
    """Return the same in rational numbers from the definition of the tableau, all of history kept."""
    t, rows = tableau_of(value), [[Fraction(entry) for entry in row] for row in z]
    states, slopes = [1 + Fraction(first), Fraction(1)], [Fraction(first)]
    if value.start == "copy":
        # U sums to 1 here, so the first stage of the first step is the state itself.
        states, slopes = [states[0]] * t.steps, [rows[0][0] * states[0]] * (t.steps - 1)
    for row in rows:
        if len(states) < t.steps:
            slopes.insert(0, row[0] * states[0])
            states.insert(0, states[0] + slopes[0])
            continue
        new: list[Fraction] = []
        for i, factor in enumerate(row):
            y = dot(t.U[i], states) + dot(t.W[i], slopes) + dot(t.A[i], new)
            new.append(factor * y)
        states.insert(0, dot(t.V, states) + dot(t.R, slopes) + dot(t.B, new))
        slopes.insert(0, new[0])
    return states[0]


def tableau_of(value: Scheme) -> Tableau:
    assert isinstance(value.applied, Tableau)
    return value.applied


def dot(weights: Sequence[Any], values: Sequence[Fraction]) -> Fraction:
    return sum((Fraction(w) * v for w, v in zip(weights, values, strict=False)), Fraction(0))


def table(**rows: Any) -> Tableau:
    return Tableau(**rows)


MULTI_STAGE = {
    "heun": Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2")),
    "rk4": Tableau.runge_kutta(
        ((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6")
    ),
    "3/8 rule": Tableau.runge_kutta(
        ((0, 0, 0, 0), ("1/3", 0, 0, 0), ("-1/3", 1, 0, 0), (1, -1, 1, 0)), ("1/8", "3/8", "3/8", "1/8")
    ),
    "pece2": table(V=(1, 0), B=("1/2", "1/2"), A=((0, 0), ("3/2", 0)), W=((0,), ("-1/2",))),
    "pece3": table(
        V=(1, 0, 0),
        B=("2/3", "5/12"),
        R=("-1/12", 0),
        A=((0, 0), ("23/12", 0)),
        W=((0, 0), ("-4/3", "5/12")),
    ),
    "two-step Runge–Kutta": table(
        V=("3/4", "1/4"),
        B=("1/4", 1),
        A=((0, 0), ("3/4", 0)),
        U=((1, 0), ("1/2", "1/2")),
        W=((0,), ("1/4",)),
    ),
    "extrapolated midpoint": table(V=(1, 0), B=(1,), U=(("3/2", "-1/2"),)),
}
LATE_SLOPES = table(V=("1/2", "1/2", 0), B=("17/16",), R=("3/8", "1/16"), W=(("7/8", "-3/8"),))
MULTI_STEP = {
    "damped midpoint": Tableau.multistep(("1/4", "3/4"), ("3/2", "1/4")),
    "three steps": Tableau.multistep(("1/2", "1/4", "1/4"), ("3/2", 0, "1/4")),
    "five steps": Tableau.multistep(("1/5", "1/5", "1/5", "1/5", "1/5"), (2, 1)),
    "ab4": Tableau.multistep((1,), ("55/24", "-59/24", "37/24", "-3/8")),
}
CASES = {
    **{name: scheme(name) for name in schemes() if isinstance(scheme(name).tableau, Tableau)},
    **{
        f"{name}, {start}": Scheme(tableau, start=start)
        for name, tableau in (MULTI_STAGE | MULTI_STEP).items()
        for start in ("euler", "copy")
    },
    "absorbed": Scheme(MULTI_STEP["three steps"], scale="absorbed"),
    "absorbed predictor-corrector": Scheme(table(V=("1/4", "3/4"), B=("3/4", 1)), scale="absorbed"),
    "late slopes": Scheme(LATE_SLOPES),
}


@pytest.mark.parametrize("name", CASES)
def test_linear_fields_give_the_recurrence_of_the_tableau(name: str) -> None:
    """A number of its own for every branch tells which branch is evaluated where (theory: a standing unit test)."""
    value, blocks = CASES[name], 7
    generator = np.random.default_rng(0)
    for scale in (0.1, 1.0, 3.0):
        first, z = scale, scale * generator.uniform(-1, 1, (blocks, value.tableau.stages))
        branches = z.tolist()
        if value.start == "euler":  # forward Euler steps have one branch
            branches[: max(0, value.tableau.steps - 2)] = [
                row[:1] for row in branches[: max(0, value.tableau.steps - 2)]
            ]
        expected = float(expected_of(value, first, branches))
        assert seen(value, first, branches) == pytest.approx(expected, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", [name for name in CASES if name != "late slopes"])
@pytest.mark.parametrize("z", [-1.7, -0.3, 0.05, 0.8])
def test_linear_fields_give_what_the_reference_integrator_gives(name: str, z: float) -> None:
    """The numpy integrator knows nothing of networks; a stage is one plain block, then the scheme from its start."""
    value, blocks = CASES[name], 7
    warmup = max(0, value.tableau.steps - 2) if value.start == "euler" else 0
    branches = [[z]] * warmup + [[z] * value.tableau.stages] * (blocks - warmup)
    before = 1 if value.start == "euler" and value.tableau.steps > 1 else 0
    x0 = np.array(1.0 if before else 1 + z)
    # A slope kept from the start-up is f of the state here, and f of the first stage there: the same only for c_1 = 0.
    if before and tableau_of(value).abscissae[0] != 0 and any(tableau_of(value).R):
        pytest.skip("start-up slopes are defined differently")
    applied = replace(tableau_of(value), derivative=1)  # h = 1, so that a method for x'' = f is one more recurrence
    path = integrate(applied, lambda t, x: z * x, x0, 1.0, blocks + before, start=value.start)
    assert seen(value, z, branches) == pytest.approx(float(path[-1]), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize(
    ("name", "order"), [("heun, euler", 2), ("rk4, euler", 4), ("3/8 rule, euler", 4), ("euler", 1)]
)
@pytest.mark.parametrize("z", [-2.5, -0.5, 0.7, 1.9])
def test_a_runge_kutta_block_has_its_stability_polynomial(name: str, order: int, z: float) -> None:
    one = seen(CASES[name], z, [[z] * CASES[name].tableau.stages])
    exponential = sum(z**j / float(np.prod(range(1, j + 1))) for j in range(order + 1))
    assert one / (1 + z) == pytest.approx(exponential, rel=1e-13)


def test_a_copied_history_cannot_serve_a_first_stage_that_reads_slopes() -> None:
    """There the earlier slopes are the first one of the step itself."""
    with pytest.raises(OdenasError, match=r"`start` is 'copy'.*'euler'"):
        build(Scheme(LATE_SLOPES, start="copy"), depth=32, width=4)


@pytest.mark.parametrize("start", ["euler", "copy"])
@torch.no_grad()
def test_a_multi_stage_network_is_its_tableau(start: str) -> None:
    """Through `build`, with convolutions: Heun's method written out."""
    torch.manual_seed(0)
    network: Any = build(Scheme(MULTI_STAGE["heun"], start=start), depth=20, width=3).double().eval()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    stage, expected = network.stages[0], x + network.stages[0].first(x)
    for predictor, corrector in stage.blocks:
        slope = predictor(expected)
        expected = expected + (slope + corrector(expected + slope)) / 2
    assert relative(last(stage, x, network.weights(0, x.dtype), start), expected) < 1e-12


# History.


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (scheme("euler"), 1),
        (scheme("lm"), 2),
        (scheme("momentum"), 2),
        (scheme("midpoint"), 2),
        (scheme("ab3"), 3),
        (Scheme(MULTI_STEP["three steps"]), 5),
        (Scheme(MULTI_STAGE["rk4"]), 1),
    ],
)
@torch.no_grad()
def test_what_no_step_reads_is_let_go(value: Scheme, kept: int) -> None:
    """When a step begins, of all states and slopes made in the stage only those that the steps read are alive."""
    network: Any = build(value, depth=50, width=2).eval()
    stage = network.stages[1]
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def count(module: nn.Module, arguments: tuple[Tensor]) -> None:
        made.append(weakref.ref(arguments[0]))
        alive.append(len({id(x) for x in (reference() for reference in made) if x is not None}))

    def note(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
        made.append(weakref.ref(output))

    stage.shortcut.register_forward_hook(note)
    stage.first.register_forward_hook(note)
    for branches in stage.blocks:
        branches[0].register_forward_pre_hook(count)
        for module in branches:
            module.register_forward_hook(note)
    last(stage, torch.randn(1, 2, 4, 4), network.weights(1, torch.float32), network.start)
    assert max(alive) == kept


def test_the_types_of_weights_follow_the_state() -> None:
    """A scalar keeps float32 beside bfloat16 states; a weight per channel, which would raise their type, does not."""
    sharing = {"step": torch.float32, "channel": torch.bfloat16}
    for name, dtype in sharing.items():
        value = Scheme(scheme("lm").tableau, Coefficients("learned", name, "none", spread=0.05), scale="absorbed")
        (step, *_) = build(value, depth=14, width=2).weights(0, torch.bfloat16)
        assert step.V[0].dtype == dtype
        assert step.V[0].shape == (() if name == "step" else (2, 1, 1))
