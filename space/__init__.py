"""Numerical schemes as values: which exist, what they are, and how a search draws them."""

from odenas.space.catalogue import describe, scheme, schemes
from odenas.space.errors import OdenasError
from odenas.space.scheme import Coefficients, Scheme, Stochasticity
from odenas.space.search_space import SearchSpace
from odenas.space.tableau import Tableau

__all__ = [
    "Coefficients",
    "OdenasError",
    "Scheme",
    "SearchSpace",
    "Stochasticity",
    "Tableau",
    "describe",
    "scheme",
    "schemes",
]
