"""What `odenas schemes` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from odenas.results.stability_plot import plot_stability
from odenas.space import Scheme, scheme
from odenas.space.catalogue import CATALOGUE
from odenas.space.description import describe
from odenas.space.errors import unknown
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.partitioned import Partitioned
from odenas.space.properties import properties
from odenas.space.tableau import Tableau

Known = Scheme | ImplicitMultistep
WIDTH = 120


def named(name: str) -> Known:
    """Return the scheme or the implicit method of this name.

    Raises:
        OdenasError: there is none.
    """
    if name in IMPLICIT:
        return implicit(name)
    if name not in CATALOGUE:
        raise unknown("scheme", name, [*CATALOGUE, *IMPLICIT])
    return scheme(name)


def known(name: str | None) -> dict[str, Any]:
    """Return all that is known of the named scheme, or of every one by name, JSON-ready."""
    if name:
        found = properties(named(name))
        return {"name": name, "family": family(name), "about": about(name), **found}
    return {name: known(name) for name in [*CATALOGUE, *IMPLICIT]}


def show(name: str | None) -> None:
    """Print the named scheme, or the table of all."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    if name:
        show_scheme(console, name)
    else:
        show_schemes(console)


def plot(name: str, path: Path) -> None:
    """Draw the stability region of the named scheme, with classical ones beside it."""
    value = named(name)
    plot_stability(value.tableau if isinstance(value, Scheme) else value, name, path)


def family(name: str) -> str:
    """Return the family of the named scheme."""
    return CATALOGUE[name].family if name in CATALOGUE else "implicit"


def about(name: str) -> str:
    """Return the line that says what the named scheme is."""
    return CATALOGUE[name].about if name in CATALOGUE else IMPLICIT[name].about


def show_schemes(console: Console) -> None:
    """Print the named schemes, family by family."""
    rows = [(entry.family, name) for name, entry in CATALOGUE.items()] + [("implicit", name) for name in IMPLICIT]
    families = dict.fromkeys(family for family, _ in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("name", "steps", "f", "order", "error", "real", "imaginary"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    for family in families:
        table.add_row(f"[bold]{family}[/bold]")
        for name in [name for other, name in rows if other == family]:
            value = named(name)
            method = value.tableau if isinstance(value, Scheme) else value
            table.add_row(
                f"  {name}",
                str(method.steps),
                str(getattr(method, "evaluations", getattr(method, "stages", ""))),
                str(value.order),
                f"{value.error_constant:.4g}",
                f"{value.real_interval:.4g}",
                f"{value.imaginary_interval:.4g}",
            )
    console.print(table)
    console.print("\nf: evaluations in a step; error: error constant; real and imaginary: x, y of")
    console.print("absolute stability for hλ in (−x, 0) and (−iy, iy). All are zero-stable.")
    console.print("One in full: odenas schemes NAME")


def show_scheme(console: Console, name: str) -> None:
    """Print one named scheme: its tableau and all that is known of it."""
    value = named(name)
    console.print(name, style="bold", end="  ")
    console.print(about(name), highlight=False)
    console.print()
    for line in tableau_lines(value):
        console.print("  " + line, highlight=False, soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for label, entry in _rows(value):
        table.add_row(label, entry)
    console.print(table)


def tableau_lines(value: Known) -> list[str]:
    """Return a step written out, one equation in each line."""
    tableau = value if isinstance(value, ImplicitMultistep) else value.tableau
    if isinstance(tableau, ImplicitMultistep):
        newest = [*_terms(tableau.slopes[:1], lambda j: "h f(xₙ₊₁)"), *_terms(tableau.slopes[1:], _slope)]
        return ["xₙ₊₁ = " + _sum([*_terms(tableau.states, _past("x")), *newest])]
    return _partitioned_lines(tableau) if isinstance(tableau, Partitioned) else _lines(tableau)


def _partitioned_lines(method: Partitioned) -> list[str]:
    f = [f"h f(Z{_sub(i + 1)})" for i in range(method.stages)]
    g = [f"h g(Y{_sub(i + 1)})" for i in range(method.stages)]
    lines = []
    for i, (of_f, of_g) in enumerate(zip(method.A, method.A2, strict=True)):
        lines.append(f"Z{_sub(i + 1)} = " + _sum([(1, "zₙ"), *_terms(of_g, g.__getitem__)]))
        lines.append(f"Y{_sub(i + 1)} = " + _sum([(1, "yₙ"), *_terms(of_f, f.__getitem__)]))
    lines.append("yₙ₊₁ = " + _sum([(1, "yₙ"), *_terms(method.b, f.__getitem__)]))
    return [*lines, "zₙ₊₁ = " + _sum([(1, "zₙ"), *_terms(method.b2, g.__getitem__)])]


def _lines(tableau: Tableau) -> list[str]:
    h = "h" if tableau.derivative == 1 else "h²"
    stage = [f"{h} f(Y{_sub(i + 1)})" for i in range(tableau.stages)]
    lines = []
    plain = tableau.is_multistep
    for i, (U, W, A) in enumerate(zip(tableau.U, tableau.W, tableau.A, strict=True)):
        terms = [*_terms(U, _past("x")), *_terms(W, lambda j: _slope(j + 1, h)), *_terms(A, lambda j: stage[j])]
        lines.append(f"Y{_sub(i + 1)} = " + _sum(terms))
    newest = [f"{h} f(xₙ)"] if plain else stage
    terms = [
        *_terms(tableau.V, _past("x")),
        *_terms(tableau.B, lambda i: newest[i]),
        *_terms(tableau.R, lambda j: _slope(j + 1, h)),
    ]
    past = any(tableau.R) or any(map(any, tableau.W))
    where = [f"fₙ₋ⱼ is f at {'xₙ₋ⱼ' if plain or lines[0] == 'Y₁ = xₙ' else 'Y₁, j steps back'}"] if past else []
    return [*([] if plain else lines), "xₙ₊₁ = " + _sum(terms), *where]


def _rows(value: Known) -> Iterable[tuple[str, str]]:
    known = properties(value)
    modified, broken = known["modified_equation"], known["first_broken"]
    yield "order", str(known["order"])
    if known["barrier"]:
        yield "barrier", known["barrier"]
    if broken:
        yield "first condition broken", f"tree {broken['tree']}, residual {_short(broken['residual'])}"
    yield "error constant", _short(known["error_constant"])
    if isinstance(value, Scheme):
        yield "steps, stages, evaluations of f", f"{known['steps']}, {known['stages']}, {known['evaluations']}"
    else:
        yield "steps", str(known["steps"])
    if known["degrees_of_freedom"] is not None:
        yield "coefficients that the order leaves free", str(known["degrees_of_freedom"])
    yield "zero-stable", "yes" if known["zero_stable"] else "no"
    if known["products_bound"] is not None and known["steps"] > 1:
        yield "products of such layers are bounded by", _short(known["products_bound"]).replace("inf", "nothing")
    yield "stable on the real axis for hλ in", _interval("(−{0}, 0)", known["real_interval"])
    yield "stable on the imaginary axis for hλ in", _interval("(−{0} i, {0} i)", known["imaginary_interval"])
    if known["stability_angle"] is not None:
        yield "A(α)-stable with α", f"{known['stability_angle']:.2f}°"
    yield "stability polynomial", _polynomial(known["stability_polynomial"])
    if known["ssp_coefficient"] is not None:
        yield "SSP coefficient", _short(known["ssp_coefficient"])
    if modified:
        sign, size = (
            ("−", _short(modified["ratio"])[1:]) if _negative(modified["ratio"]) else ("+", _short(modified["ratio"]))
        )
        equation = (
            f"u' {sign} {size} Δt u'' = f" if size not in ("0", "inf") else "u' = f" if size == "0" else "Δt u'' = f"
        )
        yield (
            "modified equation",
            f"{equation}   (drag {_short(modified['drag'])}, inertia {_short(modified['inertia'])})",
        )
    if isinstance(value, Scheme):
        yield "in a network", f"{describe(value)}; {value.coefficients.learning} coefficients, {value.scale} scale"
        yield "history begins by", value.start


def _past(symbol: str) -> Any:
    return lambda j: f"{symbol}ₙ" if j == 0 else f"{symbol}ₙ₋{_sub(j)}"


def _slope(j: int, h: str = "h") -> str:
    return f"{h} f(xₙ)" if j == 0 else f"{h} fₙ₋{_sub(j)}"


def _terms(row: Iterable[Any], symbol: Any) -> list[tuple[Any, str]]:
    return [(weight, symbol(j)) for j, weight in enumerate(row) if weight != 0]


def _sum(terms: list[tuple[Any, str]]) -> str:
    text = ""
    for weight, symbol in terms:
        size = "" if abs(weight) == 1 else f"{_short(abs(weight))} "
        sign = ("−" if weight < 0 else "") if not text else (" − " if weight < 0 else " + ")
        text += sign + size + symbol
    return text or "0"


def _sub(number: int) -> str:
    return "".join(chr(ord("₀") + int(digit)) for digit in str(number))


def _negative(value: Any) -> bool:
    return str(value).startswith("-")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if len(str(value)) <= 16 else f"{float(Fraction(value)):.6g}"


def _interval(form: str, end: Any) -> str:
    if end == 0:
        return "nothing"
    return form.format("∞" if end == "inf" else _short(end))


def _polynomial(table: list[list[Any]]) -> str:
    """Return Σ table[i][j] ζⁱ zʲ, highest power of ζ first."""
    powers = []
    for i in range(len(table) - 1, -1, -1):
        entries = [(j, entry) for j, entry in enumerate(table[i]) if entry != 0]
        if not entries:
            continue
        row = ""
        for j, entry in entries:
            text = _short(entry)
            negative, size = text.startswith("-"), text.lstrip("-")
            size = "" if size == "1" and j else size
            sign = ("−" if negative else "") if not row else (" − " if negative else " + ")
            row += sign + size + ("" if j == 0 else "z" + (_super(j) if j > 1 else ""))
        zeta = "" if i == 0 else "ζ" + (_super(i) if i > 1 else "")
        powers.append(zeta if row == "1" and i else f"({row}) {zeta}".rstrip())
    return " + ".join(powers)


def _super(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))
