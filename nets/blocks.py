"""The branches f by the kind of block."""

from __future__ import annotations

from typing import Any

from odenas.nets.branch import Bottleneck, Branch
from odenas.nets.post_activation import PostBottleneck, PostBranch
from odenas.nets.symmetric import AntisymmetricBranch, HamiltonianBranch, SymmetricBranch

# Each is made from inputs, outputs, stride and the name of an activation, and options of its own. As class variables it
# has `layers`; `after`, whether the activation follows the step too; `keeps_shape`, whether the state must have its new
# shape already; and `shortcut`, its row of SHORTCUTS where a state is projected.
BLOCKS: dict[str, Any] = {
    "basic": Branch,
    "bottleneck": Bottleneck,
    "post-basic": PostBranch,
    "post-bottleneck": PostBottleneck,
    "symmetric": SymmetricBranch,
    "antisymmetric": AntisymmetricBranch,
    "hamiltonian": HamiltonianBranch,
}
