"""How what is minimised is shown to people: its name, its unit, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A number that judges networks.

    The tables keep what is minimised, in this unit; people are shown `sign` times that.

    Args:
        name: within a sentence.
        unit: of the number.
        sign: +1 where smaller is better, −1 where larger is: then the tables keep the negative.
    """

    name: str
    unit: str
    sign: int

    @property
    def heading(self) -> str:
        """Its name at the beginning of a sentence."""
        return self.name[:1].upper() + self.name[1:]

    def shown(self, minimised: Any) -> Any:
        """Return what to show for a number of the tables, or for a difference of two; what is missing stays so."""
        return None if minimised is None else self.sign * minimised + 0.0  # no −0.00

    def shown_interval(self, low: Any, high: Any) -> tuple[Any, Any]:
        """Return the lower and the upper end to show for an interval of the tables."""
        ends = (self.shown(low), self.shown(high))
        return ends if self.sign > 0 else (ends[1], ends[0])


ERROR = Metric("error", "%", 1)
PSNR = Metric("PSNR", "dB", -1)
