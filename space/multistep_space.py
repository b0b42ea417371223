"""The part of a search space that draws linear multistep schemes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from odenas.space.ask import RESOLUTION, Ask, Interval
from odenas.space.coefficients import CONSTRAINTS, LEARNING, MARGIN, SHARING, Coefficients
from odenas.space.errors import OdenasError
from odenas.space.feasible import (
    errors_of_slopes,
    reflections_from_states,
    slopes_of_errors,
    slopes_of_order,
    states_from_reflections,
)
from odenas.space.precision import rationals
from odenas.space.scheme import SCALES, STARTS, TRANSITIONS, Scheme
from odenas.space.tableau import Tableau

BELOW = 1 - 1 / RESOLUTION  # the largest reflection coefficient but 1
FREE_SLOPES = {
    "zero": "the slopes older than the order conditions need have weight 0",
    "slopes": "their weights are coordinates",
    "errors": "the defects C_{p+1} … C_k of the order conditions beyond the order p are coordinates",
}


@dataclass(frozen=True)
class MultistepSpace:
    """Explicit linear multistep schemes: steps, order, coefficients in feasible coordinates, and how they learn.

    Every draw is zero-stable and of its stated order by construction (`odenas.space.feasible`). With one step there is
    forward Euler alone: nothing learns, and `scale`, `start` and `transition` would change nothing.

    Args:
        steps: numbers k of steps to choose from, 1 to 5.
        order: orders to choose from; a draw takes one that is at most its k (first Dahlquist barrier for explicit
            methods: order ≤ k).
        reflection: interval of the k − 1 reflection coefficients, within (−1, 1]; for two steps that is the k of
            LM-ResNet. The value 1 is reached by the last coefficient alone, of up to three steps: with more, many
            reflection coefficients that end in 1 make one and the same scheme.
        free_slopes: what the slopes are that the order leaves free; some of FREE_SLOPES.
        slope, error: intervals of those slopes, or of those defects.
        scale, start, transition: see `odenas.space.scheme`. A draw whose slopes are older than one step keeps the
            transition "restart".
        learning, sharing, constraint, spread, bound: see `odenas.space.coefficients`; a schedule ends at reflection
            coefficients drawn from `reflection`.
    """

    steps: tuple[int, ...] = (1, 2, 3, 4, 5)
    order: tuple[int, ...] = (1, 2, 3, 4, 5)
    reflection: Interval = (-0.95, 1.0)
    free_slopes: tuple[str, ...] = ("zero", "slopes", "errors")
    slope: Interval = (-1.0, 1.0)
    error: Interval = (-0.5, 0.5)
    scale: tuple[str, ...] = ("consistent", "absorbed")
    start: tuple[str, ...] = ("euler", "copy")
    transition: tuple[str, ...] = ("restart", "project")
    learning: tuple[str, ...] = ("fixed", "scheduled", "learned")
    sharing: tuple[str, ...] = ("shared", "step", "channel")
    constraint: tuple[str, ...] = ("none", "order", "zero-stable")
    spread: float = 0.05
    bound: float = MARGIN

    MULTISTEP_CHOICES: ClassVar[dict[str, Collection[Any]]] = {
        "steps": range(1, 6),
        "order": range(1, 6),
        "free_slopes": FREE_SLOPES,
        "scale": SCALES,
        "start": STARTS,
        "transition": TRANSITIONS,
        "learning": LEARNING,
        "sharing": SHARING,
        "constraint": CONSTRAINTS,
    }
    MULTISTEP_INTERVALS: ClassVar[dict[str, Interval]] = {
        "reflection": (-0.999, 1.0),
        "slope": (-10.0, 10.0),
        "error": (-10.0, 10.0),
    }

    def _check_multistep(self) -> None:
        if min(self.order) > min(self.steps):
            raise OdenasError(
                f"`order` starts at {min(self.order)}, but a zero-stable explicit method of {min(self.steps)} step(s) "
                f"has at most order {min(self.steps)} (first Dahlquist barrier)"
            )
        if max(self.steps) > 2 and self.reflection[0] > BELOW:
            raise OdenasError(
                f"`reflection` is {list(self.reflection)!r}, but must start at {BELOW} or below for {max(self.steps)} "
                "steps: only the last coefficient may be 1"
            )
        if max(self.steps) > 1 and "scheduled" in self.learning and self.reflection[0] > BELOW:
            raise OdenasError(
                f"`reflection` is {list(self.reflection)!r}, but must start at {BELOW} or below for a schedule's "
                "target: leave 'scheduled' out of `learning`"
            )
        if 1 in self.steps and "fixed" not in self.learning:
            raise OdenasError(
                f"`learning` is {list(self.learning)!r}, but with one step nothing can learn: allow 'fixed' too, or "
                "leave 1 out of `steps`"
            )

    def _draw_multistep(self, ask: Ask) -> dict[str, Any]:
        steps = ask.choose("steps", self.steps)
        # One parameter name for each number of steps: Optuna needs its choices to be always the same.
        order = ask.choose(f"order_{steps}", tuple(order for order in self.order if order <= steps))
        states = states_from_reflections(
            [ask.draw(f"reflection_{i}", self.reflection, self._highest(i, steps)) for i in range(1, steps)]
        )
        coordinates = "zero" if steps == order else ask.choose("free_slopes", self.free_slopes)
        free = [Fraction(0)] * (steps - order)
        if coordinates == "slopes":
            free = [ask.draw(f"slope_{j}", self.slope) for j in range(order, steps)]
        slopes = slopes_of_order(states, free, order)
        if coordinates == "errors":
            errors = [ask.draw(f"error_{q}", self.error) for q in range(order + 1, steps + 1)]
            slopes = slopes_of_errors(states, errors, order)
        tableau = Tableau.multistep(states, slopes)
        if steps == 1:
            return {"tableau": tableau, "coefficients": Coefficients(order=order)}
        return {
            "tableau": tableau,
            "coefficients": self._draw_coefficients(ask, steps, order),
            "scale": ask.choose("scale", self.scale),
            "start": ask.choose("start", self.start),
            "transition": self._draw_transition(ask, tableau),
        }

    def _draw_coefficients(self, ask: Ask, steps: int, order: int) -> Coefficients:
        learning = ask.choose("learning", self.learning)
        if learning == "fixed":
            return Coefficients(order=order)
        if learning == "scheduled":
            ends = self.reflection[0], min(self.reflection[1], BELOW)
            target = tuple(ask.draw(f"target_{i}", ends) for i in range(1, steps))
            return Coefficients("scheduled", order=order, target=target)
        constraint = ask.choose("constraint", self.constraint)
        return Coefficients(
            "learned",
            sharing=ask.choose("sharing", self.sharing),
            constraint=constraint,
            order=order,
            spread=self.spread,
            bound=self.bound if constraint == "zero-stable" else MARGIN,
        )

    def _draw_transition(self, ask: Ask, tableau: Tableau) -> str:
        if not any(tableau.R):
            return str(ask.choose("transition", self.transition))
        # "restart" is what all schemes can do.
        return "restart"

    def _highest(self, index: int, steps: int) -> float:
        """Only the last reflection coefficient may be 1, and where that is one-to-one; else a margin is kept."""
        return 1.0 if index == steps - 1 <= 2 else BELOW

    def _multistep_coordinates(self, scheme: Scheme) -> list[dict[str, Any]]:
        """Return the coordinates, once for every kind of `free_slopes` that has them."""
        tableau, coefficients = scheme.tableau, scheme.coefficients
        if not isinstance(tableau, Tableau) or not tableau.is_multistep or not tableau.exact or tableau.derivative != 1:
            raise OdenasError("its `tableau` is no linear multistep method in Fractions")
        try:
            reflections = reflections_from_states([Fraction(weight) for weight in tableau.V])
        except ZeroDivisionError:
            raise OdenasError(
                "its `tableau` is not zero-stable, or has roots of ρ other than 1 both on the unit circle and in it"
            ) from None
        steps, order = tableau.steps, coefficients.order
        free = [Fraction(slope) for slope in tableau.slopes[order:]]
        errors = errors_of_slopes(rationals(tableau.V), rationals(tableau.slopes), order)
        fits = {"zero": not any(free), "slopes": _inside(free, self.slope), "errors": _inside(errors, self.error)}
        kinds = [kind for kind in FREE_SLOPES if fits[kind] and kind in self.free_slopes]
        coordinates = {
            "steps": steps,
            f"order_{steps}": order,
            **{f"reflection_{i}": float(kappa) for i, kappa in enumerate(reflections, start=1)},
            **{f"slope_{j}": float(weight) for j, weight in enumerate(free, start=order)},
            **{f"error_{q}": float(error) for q, error in enumerate(errors, start=order + 1)},
            "learning": coefficients.learning,
            **{f"target_{i}": float(kappa) for i, kappa in enumerate(coefficients.target, start=1)},
            "sharing": coefficients.sharing,
            "constraint": coefficients.constraint,
            "scale": scheme.scale,
            "start": scheme.start,
            "transition": scheme.transition,
        }
        return [coordinates | {"free_slopes": kind} for kind in kinds or ["slopes" if any(free) else "zero"]]


def _inside(values: list[Fraction], interval: Interval) -> bool:
    on_grid = all((value * RESOLUTION).denominator == 1 for value in values)
    # As floats, as the ends are: 1/1000 < 0.001.
    return on_grid and all(interval[0] <= float(value) <= interval[1] for value in values)
