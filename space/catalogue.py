"""The named schemes: one table of all families."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from odenas.space.coefficients import Coefficients
from odenas.space.diffusion import DIFFUSION
from odenas.space.entry import Entry
from odenas.space.errors import OdenasError, unknown
from odenas.space.free_runge_kutta import FREE_RUNGE_KUTTA
from odenas.space.general_linear import GENERAL_LINEAR
from odenas.space.implicit import IMPLICIT, ImplicitMultistep
from odenas.space.multistep import MULTISTEP
from odenas.space.nested import NESTED
from odenas.space.partitioned_runge_kutta import PARTITIONED
from odenas.space.predictor_corrector import PREDICTOR_CORRECTOR
from odenas.space.runge_kutta import RUNGE_KUTTA
from odenas.space.scheme import Scheme
from odenas.space.stochastic import STOCHASTIC
from odenas.space.stormer import STORMER

CATALOGUE: dict[str, Entry] = {
    **MULTISTEP,
    **RUNGE_KUTTA,
    **FREE_RUNGE_KUTTA,
    **PREDICTOR_CORRECTOR,
    **GENERAL_LINEAR,
    **NESTED,
    **STORMER,
    **PARTITIONED,
    **DIFFUSION,
    **STOCHASTIC,
}


def schemes() -> list[str]:
    """Return the names of the catalogue; `scheme` knows those of `odenas.space.implicit.IMPLICIT` beside."""
    return list(CATALOGUE)


def scheme(name: str, **parameters: Any) -> Scheme:
    """Return the named scheme; `parameters` are those of its maker, such as `gamma` of "momentum".

    A name of `odenas.space.implicit.IMPLICIT` gives the scheme whose steps that method solves.

    Raises:
        OdenasError: the name is not in the catalogue, or it has no such parameter.
    """
    if not isinstance(name, str) or (name not in CATALOGUE and name not in IMPLICIT):
        raise unknown("scheme", name, [*CATALOGUE, *IMPLICIT])
    make = CATALOGUE[name].make if name in CATALOGUE else partial(_implicit_scheme, IMPLICIT[name].method)
    valid = inspect.signature(make).parameters
    for parameter in parameters:
        if parameter not in valid:
            known = f"but it has {', '.join(valid)}" if valid else "but it has none"
            raise OdenasError(f"`{parameter}` is no parameter of the scheme {name!r}, {known}")
    return make(**parameters)


def _implicit_scheme(method: ImplicitMultistep, /) -> Scheme:
    return Scheme(method, Coefficients(order=method.order))
