"""Build a torch network that steps by a scheme, and export it."""

from odenas.nets.build import SchemeNetwork, build, parameters
from odenas.nets.export import coefficients, export

__all__ = ["SchemeNetwork", "build", "coefficients", "export", "parameters"]
