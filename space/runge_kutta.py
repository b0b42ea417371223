"""Explicit Runge–Kutta methods: x_{n+1} = x_n + h Σ_i b_i f(Y_i) with the stages Y_i = x_n + h Σ_{l<i} A_il f(Y_l).

The classical methods are rows of TABLES; methods that come in families are functions of their parameters. Entries are
exact where they are rational: a float stands for an irrational number, and order is then proved to its unit roundoff.
Every number is proved by the order conditions; the reference says who found the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial
from typing import NamedTuple

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.errors import OdenasError, integer
from odenas.space.scheme import Scheme
from odenas.space.tableau import Number, Tableau, exact, number

Given = Number | int | str
ROOT2 = math.sqrt(2)


class Table(NamedTuple):
    """A Runge–Kutta method: its order, a line about it, the rows of A below its first, which is empty, and b."""

    order: int
    about: str
    A: tuple[tuple[Given, ...], ...]
    b: tuple[Given, ...]


TABLES = {
    "explicit_midpoint": Table(2, "Explicit midpoint rule (Runge 1895)", (("1/2",),), (0, 1)),
    "heun2": Table(2, "Improved Euler or explicit trapezoidal rule (Heun 1900)", ((1,),), ("1/2", "1/2")),
    "ssp22": Table(2, "Optimal SSP(2,2), the tableau of heun2 (Shu & Osher 1988)", ((1,),), ("1/2", "1/2")),
    "ralston2": Table(2, "Least error bound at two stages, order 2 (Ralston 1962)", (("2/3",),), ("1/4", "3/4")),
    "heun3": Table(3, "Heun's third-order method (Heun 1900)", (("1/3",), (0, "2/3")), ("1/4", 0, "3/4")),
    "kutta3": Table(3, "Kutta's third-order method (Kutta 1901)", (("1/2",), (-1, 2)), ("1/6", "2/3", "1/6")),
    "ralston3": Table(
        3, "Least error bound at three stages, order 3 (Ralston 1962)", (("1/2",), (0, "3/4")), ("2/9", "1/3", "4/9")
    ),
    "bogacki_shampine3": Table(
        3,
        "The step of the pair 3(2), the tableau of ralston3: its fourth stage is the next step's first "
        "(Bogacki & Shampine 1989)",
        (("1/2",), (0, "3/4")),
        ("2/9", "1/3", "4/9"),
    ),
    "ssp33": Table(3, "Optimal SSP(3,3) (Shu & Osher 1988)", ((1,), ("1/4", "1/4")), ("1/6", "1/6", "2/3")),
    "rk4": Table(
        4,
        "The classical Runge–Kutta method (Kutta 1901; Hairer, Nørsett & Wanner I, II.1)",
        (("1/2",), (0, "1/2"), (0, 0, 1)),
        ("1/6", "1/3", "1/3", "1/6"),
    ),
    "rk38": Table(
        4,
        "3/8 rule (Kutta 1901; Hairer, Nørsett & Wanner I, II.1)",
        (("1/3",), ("-1/3", 1), (1, -1, 1)),
        ("1/8", "3/8", "3/8", "1/8"),
    ),
    "gill4": Table(
        4,
        "Gill's method, three registers (Gill 1951)",
        (("1/2",), ((ROOT2 - 1) / 2, (2 - ROOT2) / 2), (0, -ROOT2 / 2, 1 + ROOT2 / 2)),
        ("1/6", (2 - ROOT2) / 6, (2 + ROOT2) / 6, "1/6"),
    ),
    "merson": Table(
        4,
        "Merson's method, five stages (Merson 1957; Hairer, Nørsett & Wanner I, II.4)",
        (("1/3",), ("1/6", "1/6"), ("1/8", 0, "3/8"), ("1/2", 0, "-3/2", 2)),
        ("1/6", 0, 0, "2/3", "1/6"),
    ),
    "ssp54": Table(
        4,
        "Optimal SSP(5,4), from the α and β printed there to 15 digits (Spiteri & Ruuth 2002)",
        (
            (0.39175222657189,),
            (0.2176690962611688, 0.368410593050371),
            (0.0826920866578106, 0.13995850219189537, 0.251891774271694),
            (0.06796628363711477, 0.11503469850463158, 0.20703489859738564, 0.544974750228521),
        ),
        (0.1468118760847866, 0.2484829094449762, 0.10425883033198097, 0.2744389009013507, 0.226007483236906),
    ),
    "ssp104": Table(
        4,
        "Optimal SSP(10,4), two registers (Ketcheson 2008)",
        tuple(("1/6",) * i if i < 5 else ("1/15",) * 5 + ("1/6",) * (i - 5) for i in range(1, 10)),
        ("1/10",) * 10,
    ),
    "dormand_prince5": Table(
        5,
        "The step of the pair 5(4): its seventh stage is the next step's first "
        "(Dormand & Prince 1980; Hairer, Nørsett & Wanner I, II.5)",
        (
            ("1/5",),
            ("3/40", "9/40"),
            ("44/45", "-56/15", "32/9"),
            ("19372/6561", "-25360/2187", "64448/6561", "-212/729"),
            ("9017/3168", "-355/33", "46732/5247", "49/176", "-5103/18656"),
        ),
        ("35/384", 0, "500/1113", "125/192", "-2187/6784", "11/84"),
    ),
}


def tabulated(name: str) -> Scheme:
    """Return the method of that row of TABLES."""
    order, _, A, b = TABLES[name]
    return Scheme(_tableau([(), *A, b]), Coefficients(order=order))


def ssp_rk(stages: int = 4, order: int = 3) -> Scheme:
    """Return the optimal SSP(s,2), s ≥ 2, or SSP(s,3), s = n² ≥ 4 (Ketcheson 2008), with s up to 100.

    All steps inside are forward Euler steps of h/C, and C is the SSP coefficient: s − 1 for order 2, s − √s for
    order 3.

    Raises:
        OdenasError: `order` is not 2 or 3, or there is no such method with that many stages.
    """
    if order == 2:
        integer("stages", stages, 2, 100)
        rows = [(Fraction(1, stages - 1),) * i for i in range(stages)] + [(Fraction(1, stages),) * stages]
        return Scheme(_tableau(rows), Coefficients(order=2))
    if order != 3:
        raise OdenasError(f"`order` is {order!r}, but must be 2 or 3")
    integer("stages", stages, 4, 100)
    n = math.isqrt(stages)
    if n * n != stages:
        raise OdenasError(f"`stages` is {stages}, but must be a square for order 3: 4, 9, 16, …")
    first, last = (n - 1) * (n - 2) // 2, n * (n + 1) // 2
    step = Fraction(1, stages - n)
    # Y_last is the mean of Y_first and of the Euler step from Y_{last−1} with the weights n and n − 1.
    after = (step,) * first + (step * Fraction(n - 1, 2 * n - 1),) * (last - first) + (step,) * (stages - last)
    rows = [(step,) * i if i < last else after[:i] for i in range(stages + 1)]
    return Scheme(_tableau(rows), Coefficients(order=3))


def rkc(order: int, stages: int, damping: Given) -> Scheme:
    """Return the Runge–Kutta–Chebyshev method of order 1 or 2 with s stages and the damping ε ≥ 0.

    With w₀ = 1 + ε/s² its stability function is T_s(w₀ + w₁z)/T_s(w₀) for order 1, and 1 + b(T_s(w₀ + w₁z) − T_s(w₀))
    for order 2; the real interval is 2s² for order 1 without damping, about (2/3)(s² − 1) for order 2. Damping keeps
    |R| below 1 inside it; ε = 1/20 and 2/13 are usual. The stages follow the recurrence of the Chebyshev polynomials,
    which keeps rounding errors small, with b₀ = b₁ = b₂ for order 2 (van der Houwen & Sommeijer 1980; Sommeijer,
    Shampine & Verwer, J. Comput. Appl. Math. 88 (1998) 315–326; Hairer & Wanner II, IV.2).

    Raises:
        OdenasError: `order` is not 1 or 2, `stages` no integer from `order` to 20, or `damping` not from 0 to 100.
    """
    if order not in (1, 2):
        raise OdenasError(f"`order` is {order!r}, but must be 1 or 2")
    integer("stages", stages, order, 20)
    epsilon = Fraction(number("damping", damping))
    if not 0 <= epsilon <= 100:
        raise OdenasError(f"`damping` is {damping!r}, but must be a number from 0 to 100")
    w0 = 1 + epsilon / stages**2
    T, first, second = chebyshev(w0, stages)
    if order == 1:
        w1, b = T[-1] / first[-1], [1 / value for value in T]
    else:
        w1, b = first[-1] / second[-1], [d2 / d1**2 for d1, d2 in zip(first[2:], second[2:], strict=True)]
        b = [b[0], b[0], *b]
    rows = [[Fraction(0)] * stages, [b[1] * w1] + [Fraction(0)] * (stages - 1)]
    for j in range(2, stages + 1):
        mu, nu, step = 2 * w0 * b[j] / b[j - 1], -b[j] / b[j - 2], 2 * w1 * b[j] / b[j - 1]
        row = [mu * one + nu * two for one, two in zip(rows[-1], rows[-2], strict=True)]
        row[j - 1] += step
        row[0] -= step * (1 - b[j - 1] * T[j - 1])  # nothing for order 1
        rows.append(row)
    return Scheme(_tableau(row[:i] for i, row in enumerate(rows)), Coefficients(order=order))


def chebyshev(w: Fraction, degree: int) -> tuple[list[Fraction], list[Fraction], list[Fraction]]:
    """Return T_j(w), T_j'(w) and T_j''(w) for j = 0 … degree ≥ 1, by T_{j+1} = 2wT_j − T_{j−1} and its derivatives."""
    T, first, second = [Fraction(1), w], [Fraction(0), Fraction(1)], [Fraction(0), Fraction(0)]
    for _ in range(degree - 1):
        second.append(2 * w * second[-1] + 4 * first[-1] - second[-2])
        first.append(2 * w * first[-1] + 2 * T[-1] - first[-2])
        T.append(2 * w * T[-1] - T[-2])
    return T, first, second


def low_storage(A: Sequence[Given], B: Sequence[Given]) -> Tableau:
    """Return the tableau of the method in two registers S ← A_i S + h f(x), x ← x + B_i S, i = 1…s, with A_1 = 0.

    Raises:
        OdenasError: `A` and `B` differ in length or are empty, an entry is no number, or A_1 ≠ 0.

    (Williamson, Low-storage Runge–Kutta schemes, J. Comput. Phys. 35 (1980) 48–56.)
    """
    if len(A) != len(B) or not B:
        raise OdenasError(f"`A` and `B` have {len(A)} and {len(B)} entries, but need the same number, at least one")
    given = [number("A", entry) for entry in A], [number("B", entry) for entry in B]
    if given[0][0] != 0:
        raise OdenasError(f"`A` begins with {A[0]!r}, but must begin with 0: there is no slope yet")
    register, rows = [Fraction(0)] * len(B), [[Fraction(0)] * len(B)]
    for i, (a, b) in enumerate(zip(*given, strict=True)):
        register = [Fraction(a) * entry for entry in register]
        register[i] += 1
        rows.append([x + Fraction(b) * s for x, s in zip(rows[-1], register, strict=True)])
    convert = Fraction if exact(given[0]) and exact(given[1]) else float
    return _tableau([convert(entry) for entry in row[:i]] for i, row in enumerate(rows))


def williamson3() -> Scheme:
    """Return Williamson's three-stage method of order 3."""
    return Scheme(low_storage((0, "-5/9", "-153/128"), ("1/3", "15/16", "8/15")), Coefficients(order=3))


def carpenter_kennedy4() -> Scheme:
    """Return Carpenter and Kennedy's five-stage method of order 4, whose quotients only approximate its numbers."""
    A = (
        0,
        -567301805773 / 1357537059087,
        -2404267990393 / 2016746695238,
        -3550918686646 / 2091501179385,
        -1275806237668 / 842570457699,
    )
    B = (
        1432997174477 / 9575080441755,
        5161836677717 / 13612068292357,
        1720146321549 / 2090206949498,
        3134564353537 / 4481467310338,
        2277821191437 / 14882151754819,
    )
    return Scheme(low_storage(A, B), Coefficients(order=4))


def _tableau(rows: Iterable[Sequence[Given]]) -> Tableau:
    """Return the tableau whose A has all `rows` but the last, filled up with zeros, and whose b is the last."""
    *A, b = rows
    return Tableau.runge_kutta([(*row, *(0,) * (len(b) - len(row))) for row in A], b)


FAMILY = "Runge–Kutta"
RUNGE_KUTTA: dict[str, Entry] = {
    **{name: Entry(FAMILY, table.about, partial(tabulated, name)) for name, table in TABLES.items()},
    "ssp_rk": Entry(FAMILY, "Optimal SSP(s,2) and SSP(n²,3); SSP(4,3) by default (Ketcheson 2008)", ssp_rk),
    "rkc1": Entry(
        FAMILY,
        "Runge–Kutta–Chebyshev of order 1, real interval 2s² less damping (van der Houwen & Sommeijer 1980)",
        partial(rkc, 1, stages=3, damping="1/20"),
    ),
    "rkc2": Entry(
        FAMILY,
        "Runge–Kutta–Chebyshev of order 2, real interval about 2/3 (s² − 1) (van der Houwen & Sommeijer 1980)",
        partial(rkc, 2, stages=4, damping="2/13"),
    ),
    "williamson3": Entry(FAMILY, "Three stages in two registers, order 3 (Williamson 1980)", williamson3),
    "carpenter_kennedy4": Entry(
        FAMILY, "Five stages in two registers, order 4 (Carpenter & Kennedy 1994)", carpenter_kennedy4
    ),
}
