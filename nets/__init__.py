"""Build a torch network that steps by a scheme, and export it."""

from odenas.nets.build import build
from odenas.nets.coefficients import coefficients
from odenas.nets.export import export
from odenas.nets.network import SchemeNetwork, parameters
from odenas.nets.rewire import rewire, rewired

__all__ = ["SchemeNetwork", "build", "coefficients", "export", "parameters", "rewire", "rewired"]
