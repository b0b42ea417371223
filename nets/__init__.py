"""Build a torch network that steps by a scheme, and export it."""

from odenas.nets.build import SchemeNetwork, build, parameters
from odenas.nets.coefficients import coefficients
from odenas.nets.export import export
from odenas.nets.rewire import rewire, rewired

__all__ = ["SchemeNetwork", "build", "coefficients", "export", "parameters", "rewire", "rewired"]
