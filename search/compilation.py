"""Whether torch.compile can make training steps here."""

from __future__ import annotations

import shutil

from odenas.search.config import SearchConfig
from odenas.space import OdenasError

COMPILERS = ("c++", "g++", "clang++")


def check_compiler(config: SearchConfig) -> None:
    """Check that there is what torch.compile needs on the CPU, if it is asked for; on a GPU torch brings its own.

    Raises:
        OdenasError: there is no C++ compiler.
    """
    if config.compiled and not config.gpus and not any(map(shutil.which, COMPILERS)):
        raise OdenasError(
            "`compiled` is true, but torch.compile needs a C++ compiler on the CPU: one of "
            f"{', '.join(COMPILERS)} on PATH"
        )
