"""The part of a search space that draws explicit Runge–Kutta methods."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from odenas.space.ask import RESOLUTION, Ask
from odenas.space.coefficients import Coefficients
from odenas.space.errors import OdenasError
from odenas.space.feasible_runge_kutta import RUNGE_KUTTA_FAMILIES
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau


@dataclass(frozen=True)
class RungeKuttaSpace:
    """Explicit Runge–Kutta methods: stages, order, and what the order conditions leave free.

    Every draw has its stated order by construction (`odenas.space.feasible_runge_kutta`). The order comes from the
    field `order` of the whole space, as far as the coordinates reach: to 4, and to 3 with one stage to spare or more.

    Args:
        stages: numbers of stages to choose from, 1 to 6; with one stage there is forward Euler alone.
    """

    stages: tuple[int, ...] = (2, 3, 4, 5, 6)
    order: tuple[int, ...] = (1, 2, 3, 4, 5)

    RUNGE_KUTTA_CHOICES: ClassVar[dict[str, Collection[Any]]] = {"stages": range(1, 7)}

    def _check_runge_kutta(self) -> None:
        for stages in self.stages:
            reached = sorted({family.order for family in RUNGE_KUTTA_FAMILIES.values() if family.stages == stages})
            if not set(reached) & set(self.order):
                raise OdenasError(
                    f"`order` is {list(self.order)!r}, but the coordinates of {stages} stage(s) reach the orders "
                    f"{', '.join(map(str, reached))} (Butcher barrier: at most order {min(stages, 4)} with "
                    f"{min(stages, 4)} stages)"
                )

    def _draw_runge_kutta(self, ask: Ask) -> dict[str, Any]:
        stages = ask.choose("stages", self.stages)
        rows = {name: family for name, family in RUNGE_KUTTA_FAMILIES.items() if family.stages == stages}
        order = ask.choose(f"runge_kutta_order_{stages}", self._orders(stages))
        name = ask.choose(f"branch_{stages}_{order}", [name for name, family in rows.items() if family.order == order])
        family = rows[name]
        coordinates = [
            ask.draw(f"{name}:{coordinate}", (float(low), float(high)))
            for coordinate, (low, high) in family.box.items()
        ]
        tableau = Tableau.runge_kutta(*family.tableau(coordinates))
        return {"tableau": tableau, "coefficients": Coefficients(order=order)}

    def _orders(self, stages: int) -> list[int]:
        reached = {family.order for family in RUNGE_KUTTA_FAMILIES.values() if family.stages == stages}
        return sorted(reached & set(self.order))

    def _runge_kutta_coordinates(self, scheme: Scheme) -> list[dict[str, Any]]:
        tableau, order = scheme.tableau, scheme.coefficients.order
        if not isinstance(tableau, Tableau) or tableau.steps > 1 or not tableau.exact:
            raise OdenasError("its `tableau` is no Runge–Kutta method in Fractions")
        rows = {
            name: family
            for name, family in RUNGE_KUTTA_FAMILIES.items()
            if (family.stages, family.order) == (tableau.stages, order)
        }
        reasons = [f"no coordinates have {tableau.stages} stages and order {order}"]
        for name, family in rows.items():
            try:
                found = family.coordinates(tableau.A, tableau.B)
            except OdenasError as error:
                reasons.append(str(error))
                continue
            if any((Fraction(value) * RESOLUTION).denominator != 1 for value in found):
                raise OdenasError("its coordinates have more than three decimals")
            coordinates = {
                "stages": tableau.stages,
                f"runge_kutta_order_{tableau.stages}": order,
                f"branch_{tableau.stages}_{order}": name,
                **{f"{name}:{key}": float(value) for key, value in zip(family.box, found, strict=True)},
            }
            return [coordinates]
        raise OdenasError(reasons[-1])
