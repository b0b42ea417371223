"""Numerical schemes as values: which exist, what they are, and how a search draws them."""

from odenas.space.blocks import Blocks
from odenas.space.catalogue import scheme, schemes
from odenas.space.coefficients import Coefficients
from odenas.space.description import describe
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme
from odenas.space.search_space import SearchSpace
from odenas.space.stochasticity import Stochasticity
from odenas.space.tableau import Tableau

__all__ = [
    "Blocks",
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
