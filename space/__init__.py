"""Numerical schemes as values: which exist, what they are, and how a search draws them.

To be read in this order: `tableau` (the coefficients), `integrate` (what they do), `rooted_trees` and `order`,
`root_condition` and `zero_stability`, `stability_polynomial` and `stability` (what is proved of them); `scheme` with
`coefficients`, `blocks` and `stochasticity` (what a network adds); `multistep`, `runge_kutta` and the other families,
gathered in `catalogue`; `feasible` and `feasible_runge_kutta` (coordinates in which every point is a method of its
order), and `search_space` with its three parts. `partitioned` and `implicit` hold methods of other kinds. `properties`
gathers all that is known of a scheme: `barriers`, `freedom`, `monotonicity`, `modified_equation`, `companion_products`,
`stability_region`, `stability_angle`.
"""

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
