"""The names that users import, in a process that has imported nothing before."""

import subprocess
import sys

CONTRACT = """
import inspect, sys
import odenas.search
assert not {"torch", "ray"} & set(sys.modules), "the command line would wait for them"
from odenas.space import Scheme, SearchSpace, scheme, schemes
from odenas.nets import build, export
from odenas.search import SearchConfig, search
from odenas.results import load, published
assert all(inspect.isfunction(entry) for entry in (scheme, schemes, build, export, search, load, published))
assert all(inspect.isclass(entry) for entry in (Scheme, SearchSpace, SearchConfig))
import odenas.search.driver, odenas.search
assert inspect.isfunction(odenas.search.search)
"""


def test_the_contract_of_names() -> None:
    done = subprocess.run([sys.executable, "-c", CONTRACT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
