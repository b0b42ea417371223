"""A scheme: how a network steps from layer to layer, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from numpy.typing import ArrayLike, NDArray

from odenas.space.barriers import barrier
from odenas.space.blocks import Blocks
from odenas.space.coefficients import MARGIN, Coefficients
from odenas.space.errors import OdenasError, one_of, table
from odenas.space.feasible import reflections_from_states
from odenas.space.implicit_steps import ImplicitMultistep
from odenas.space.integrate import EULER, integrate
from odenas.space.order import error_constant, order
from odenas.space.partitioned import Partitioned
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stochasticity import Stochasticity
from odenas.space.tableau import Row, Tableau, plain
from odenas.space.zero_stability import zero_stable

FORMAT = 3

PARTS: dict[str, Any] = {
    "tableau": Tableau,
    "coefficients": Coefficients,
    "blocks": Blocks,
    "stochasticity": Stochasticity,
}
# What a format did not say, by the first format that does.
ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "scheme": {"transition": "restart", "tying": "none", "blocks": asdict(Blocks())},
        "coefficients": {"bound": MARGIN, "target": ()},
        "stochasticity": {"growth": "linear"},
    },
    3: {
        "blocks": {"groups": 1, "inner": None, "shortcut": "projection"},
        "stochasticity": {"per": "batch", "forward": "shake", "backward": "keep"},
    },
}

SCALES = {
    "consistent": "the slopes' weights are the tableau's, so that the scheme approximates x' = f",
    "absorbed": "the slopes' weights are divided by their sum: the learned f absorbs the scale, as in LM-ResNet",
}
STARTS = {
    "euler": "forward Euler steps, or backward Euler ones of an implicit method, until there is history enough; the "
    "state before a stage's first block counts",
    "copy": "history begins after a stage's first block, with earlier states and slopes equal to the present ones",
}
TRANSITIONS = {
    "restart": "history begins anew in every stage of the network, after a plain residual block (Lu et al. 2018)",
    "project": "earlier states take the projection that the state takes, and a stage's first block is a step too",
}
TYINGS = {
    "none": "every branch has weights of its own",
    "stages": "the stages of a step share their weights, as in a Runge–Kutta method for one f",
    "steps": "all branches of a stage of the network share their weights: one f, integrated",
}


@dataclass(frozen=True)
class Scheme:
    """A numerical scheme with all that a network needs to step by it. Frozen, comparable, hashable, JSON both ways.

    Args:
        tableau: the coefficients, or their initial values where they are learned; a Partitioned method for systems of
            two halves; an ImplicitMultistep method, whose steps are solved.
        coefficients: whether and how they learn.
        scale: one of SCALES.
        start: one of STARTS; how history begins in a network.
        transition: one of TRANSITIONS; what becomes of history where the network changes shape.
        tying: one of TYINGS; which branches share their weights.
        blocks: the residual blocks.
        stochasticity: noise in training.

    Raises:
        OdenasError: the tableau has not the stated order or breaks the stated constraint, or a field is out of range.
    """

    tableau: Tableau | Partitioned | ImplicitMultistep
    coefficients: Coefficients = field(default_factory=Coefficients)
    scale: str = "consistent"
    start: str = "euler"
    transition: str = "restart"
    tying: str = "none"
    blocks: Blocks = field(default_factory=Blocks)
    stochasticity: Stochasticity = field(default_factory=Stochasticity)

    def __post_init__(self) -> None:
        for name, kind in PARTS.items():
            given = getattr(self, name)
            if not isinstance(given, kind) and not (name == "tableau" and type(given) in UNLEARNED):
                raise OdenasError(f"`{name}` is {given!r}, but must be a {kind.__name__}")
        for name, valid in (("scale", SCALES), ("start", STARTS), ("transition", TRANSITIONS), ("tying", TYINGS)):
            one_of(name, getattr(self, name), valid)
        if self.blocks.kind == "hamiltonian" and not isinstance(self.tableau, Partitioned):
            raise OdenasError(
                "`kind` of the blocks is 'hamiltonian', but needs a partitioned method such as symplectic_euler, whose "
                "halves take opposite signs; the nearest for others is 'symmetric'"
            )
        if type(self.tableau) in UNLEARNED:
            self._check_unlearned(*UNLEARNED[type(self.tableau)])
        stated = self.coefficients.order
        if order(self.tableau, stated) < stated:
            known = f"; {barrier(self.tableau)}" if isinstance(self.tableau, Tableau) else ""
            raise OdenasError(
                f"`order` is stated as {stated}, but the tableau has order {self.order}{known.rstrip('; ')}"
            )
        if self.coefficients.constraint == "zero-stable" and not self.zero_stable:
            raise OdenasError(
                "`constraint` is 'zero-stable', but the tableau is not: ρ has a root outside the unit "
                "disc or a multiple one on the circle"
            )
        if self.scale == "absorbed" and not self.zero_stable:
            raise OdenasError("`scale` is 'absorbed', but the tableau is not zero-stable: its slopes may sum to 0")
        if isinstance(self.tableau, Tableau):
            self._check_tableau(self.tableau)

    def _check_unlearned(self, of: str, start: str | None) -> None:
        fixed = {"learning": (self.coefficients.learning, "fixed"), "scale": (self.scale, "consistent")}
        fixed |= {"transition": (self.transition, "restart"), "start": (self.start, start or self.start)}
        for name, (given, needed) in fixed.items():
            if given != needed:
                raise OdenasError(f"`{name}` is {given!r}, but must be {needed!r} for {of}")

    def _check_tableau(self, tableau: Tableau) -> None:
        if self.transition == "project" and (any(tableau.R) or any(map(any, tableau.W))):
            raise OdenasError(
                "`transition` is 'project', but the tableau reads earlier slopes, which have no projection"
            )
        learning = self.coefficients.learning
        if learning == "fixed":
            return
        if tableau.steps < 2 or not tableau.is_multistep:
            raise OdenasError(
                f"`learning` is {learning!r} for {tableau.steps} step(s) and {tableau.stages} "
                "stage(s), but needs a linear multistep method of 2 steps or more: else no coefficient is free"
            )
        if self.coefficients.constraint == "zero-stable" and not _has_reflections(tableau):
            raise OdenasError(
                "`constraint` is 'zero-stable', but roots of ρ other than 1 lie both on the unit circle and in "
                "it, and no reflection coefficients that could change make such a tableau"
            )
        target = self.coefficients.target
        if learning == "scheduled" and len(target) != tableau.steps - 1:
            raise OdenasError(
                f"`target` has {len(target)} entries, but needs {tableau.steps - 1} for the tableau's steps"
            )

    @cached_property
    def order(self) -> int:
        """The order of the tableau: the largest p whose conditions all hold."""
        return order(self.tableau)

    @cached_property
    def zero_stable(self) -> bool:
        """Whether the tableau is zero-stable (root condition)."""
        return zero_stable(self.tableau)

    @cached_property
    def error_constant(self) -> float:
        """The normalised error constant C_{p+1}/σ(1)."""
        return error_constant(self.tableau)

    @cached_property
    def real_interval(self) -> float:
        """Length x of the interval (−x, 0) of z = hλ on which the tableau is absolutely stable."""
        return real_interval(self.tableau)

    @cached_property
    def imaginary_interval(self) -> float:
        """Length y such that the tableau is absolutely stable for z = hλ on (−iy, iy)."""
        return imaginary_interval(self.tableau)

    @property
    def applied(self) -> Tableau | Partitioned | ImplicitMultistep:
        """The tableau that a network applies with h = 1: the tableau, with its slopes scaled as `scale` says."""
        tableau = self.tableau
        if self.scale == "consistent" or not isinstance(tableau, Tableau):
            return tableau
        total = sum(tableau.slopes, Fraction(0))

        def scaled(row: Row) -> Row:
            return tuple(weight / total for weight in row)

        return replace(
            tableau,
            B=scaled(tableau.B),
            R=scaled(tableau.R),
            A=tuple(map(scaled, tableau.A)),
            W=tuple(map(scaled, tableau.W)),
        )

    def integrate(
        self,
        f: Callable[[float, NDArray[Any]], ArrayLike],
        x0: ArrayLike,
        h: float,
        n: int,
        start: str = "rk4",
        v0: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Return n steps of size h of x' = f(t, x) by the tableau from t = 0, shape (n + 1, *x0.shape).

        The numpy reference; `odenas.space.integrate.integrate` says what `start` may be. A tableau for x'' = f takes
        the initial velocity `v0`.
        """
        return integrate(self.tableau, f, x0, h, n, start=start, v0=v0)

    def twin(self) -> Scheme:
        """Return what a claim of gain is made against: forward Euler with everything else equal.

        The twin of forward Euler with noise is forward Euler without; that of forward Euler with blocks or tying of
        its own is the ordinary one. Where the noise shakes two stages, which a step of forward Euler has not, the twin
        has none; for Hamiltonian blocks, which need two halves, it has symmetric ones.
        """
        blocks = replace(self.blocks, kind="symmetric") if self.blocks.kind == "hamiltonian" else self.blocks
        noise = Stochasticity() if self.stochasticity.kind == "shake" else self.stochasticity
        tying = self.tying if self.tying == "steps" else "none"  # a step of forward Euler has one stage
        euler = Scheme(EULER, tying=tying, blocks=blocks, stochasticity=noise)
        if self != euler:
            return euler
        return replace(self, stochasticity=Stochasticity()) if self.stochasticity.rate else Scheme(EULER)

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme JSON-ready; `from_dict` undoes it."""
        coefficients = asdict(self.coefficients) | {"target": [plain(kappa) for kappa in self.coefficients.target]}
        blocks = asdict(self.blocks) | {"per_stage": list(self.blocks.per_stage)}
        return {
            "format": FORMAT,
            "tableau": self.tableau.to_dict(),
            "coefficients": coefficients,
            "scale": self.scale,
            "start": self.start,
            "transition": self.transition,
            "tying": self.tying,
            "blocks": blocks,
            "stochasticity": asdict(self.stochasticity),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scheme:
        """Return the scheme that `to_dict` wrote, by this version or an older one.

        Raises:
            OdenasError: written by a newer version, a key is missing or unknown, or a value is out of range.
        """
        # First: a newer version may have other keys.
        written = data.get("format", FORMAT) if isinstance(data, Mapping) else FORMAT
        if isinstance(written, bool) or not isinstance(written, int) or not 1 <= written <= FORMAT:
            raise OdenasError(f"`format` of the scheme is {written!r}, but this version reads 1 to {FORMAT}")
        since = [added for first, added in ADDED.items() if written < first]

        def complete(name: str, entries: Any) -> Any:
            """Return what a part says, with what its format did not."""
            if not isinstance(entries, Mapping):
                return entries
            return {key: value for added in since for key, value in added.get(name, {}).items()} | dict(entries)

        given = table("scheme", complete("scheme", data), ("format", *cls.__match_args__))
        tableau = given["tableau"]
        parts: dict[str, Any] = {"tableau": _kind(tableau).from_dict(tableau)}
        for name, kind in list(PARTS.items())[1:]:
            parts[name] = kind(**table(name, complete(name, given[name]), kind.__dataclass_fields__))
        return cls(**{name: parts.get(name, given[name]) for name in cls.__match_args__})


# The kinds of method whose coefficients do not learn: what they are called, and the start that they need.
UNLEARNED: dict[type, tuple[str, str | None]] = {
    Partitioned: ("a partitioned method", None),
    ImplicitMultistep: ("an implicit method", "euler"),
}
# Keys that tell the other kinds of method from a tableau, which has V.
KEYS: dict[Any, set[str]] = {Partitioned: {"b", "b2"}, ImplicitMultistep: {"states", "slopes"}}


def _kind(tableau: object) -> Any:
    """Return the kind of method that a table is of: a tableau where nothing tells."""
    keys = set(tableau) if isinstance(tableau, Mapping) else {"V"}
    return next((kind for kind, own in KEYS.items() if own & keys and "V" not in keys), Tableau)


def _has_reflections(tableau: Tableau) -> bool:
    try:
        reflections_from_states([Fraction(weight) for weight in tableau.V])
    except ZeroDivisionError:
        return False
    return True
