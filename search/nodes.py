"""The nodes of a cluster, made ready for trials: the same versions, the run folder in reach, the data in place."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from odenas.nets.backbones import is_given
from odenas.search.config import SearchConfig
from odenas.search.data import load
from odenas.search.sources import Report
from odenas.space import OdenasError

Node = Mapping[str, Any]
"""A row of `ray.nodes()`."""


def prepare_nodes(config: SearchConfig, report: Report) -> None:
    """Check every other node of the cluster on which a trial fits, and obtain the data there; `report` gets lines.

    What a node lacks that joins later, its first trial obtains. A node that is lost meanwhile is reported and left out.

    Raises:
        OdenasError: a node has other versions than this machine, does not reach the folder of the checkpoints, or
            cannot have the data.
    """
    nodes = others(config)
    if not nodes:
        return
    library = (config.backbone.partition(":")[0],) if is_given(config.backbone) else ()
    with _mark(config) as mark:
        state = look(("odenas", "torch", *library))
        here = state(mark)
        for node, there in _on_each(nodes, state, (mark,), report):
            if difference := _difference(here, there):
                raise OdenasError(f"`--address` is {config.address!r}, but {_name(node)} {difference}")
            if not there["reached"]:
                name, place = ("storage", config.storage) if config.storage else ("run", str(config.folder))
                raise OdenasError(
                    f"`--{name}` is {place!r}, which {_name(node)} does not reach to write to; "
                    "choose a folder that all nodes share, or give a `--storage` that they do"
                )
    arguments = (config.data, config.train_size, config.seed)
    for node, (lines, failure) in _on_each(nodes, obtain, arguments, report):
        for line in lines:
            report(f"{_name(node)}: {line}")
        if failure:
            raise OdenasError(f"{_name(node)}: {failure}")


def others(config: SearchConfig) -> list[Node]:
    """Return the living nodes on which a trial fits, without this process's own."""
    own = ray.get_runtime_context().get_node_id()
    wanted = {"CPU": config.cpus, "GPU": config.gpus}
    return [
        node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
        and node["NodeID"] != own
        and all(node["Resources"].get(name, 0) >= least for name, least in wanted.items())
    ]


def look(packages: tuple[str, ...]) -> Callable[[str | None], dict[str, Any]]:
    """Return a function that says what there is on the machine that it runs on.

    It returns the version of Python and of each package (None where it is not there), a digest of this package's
    source, and whether the file that it is given is there in a folder that can be written to.
    """

    # Inside, so that Ray sends it by value: where this package is missing, nothing of it can be imported.
    def state(mark: str | None) -> dict[str, Any]:
        import hashlib
        import os
        import platform
        from importlib.metadata import PackageNotFoundError, version
        from importlib.util import find_spec
        from pathlib import Path

        def found(name: str) -> str | None:
            try:
                return version(name).partition("+")[0]  # +cpu and +cu130 are the same version
            except PackageNotFoundError:
                return None

        digest = hashlib.sha256()
        try:
            for part in ("space", "nets", "results", "search"):
                specification = find_spec(f"odenas.{part}")
                for folder in (specification and specification.submodule_search_locations) or ():
                    for path in sorted(Path(folder).glob("*.py")):
                        digest.update(path.name.encode() + path.read_bytes())
        except (ImportError, OSError):
            pass
        reached = mark is None or (os.path.exists(mark) and os.access(os.path.dirname(mark), os.W_OK))
        versions = {"Python": ".".join(platform.python_version_tuple()[:2]), **{name: found(name) for name in packages}}
        return {"versions": versions, "source": digest.hexdigest(), "reached": reached}

    return state


def obtain(name: str, train_size: int | None, seed: int) -> tuple[list[str], str | None]:
    """Obtain a data set on the machine that this runs on; return what was reported, and what is wrong."""
    lines: list[str] = []
    try:
        load(name, train_size=train_size, seed=seed, report=lines.append)
    except OdenasError as error:
        return lines, str(error)
    return lines, None


def _difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Return what another machine has otherwise than this one."""
    for name, version in here["versions"].items():
        found = there["versions"][name]
        if found != version:
            has = f"has {name} {found}" if found else f"has no {name}"
            return f"{has}, and this machine {version}; install the same on all nodes"
    if there["source"] != here["source"]:
        return "has other files of odenas than this machine; install the same on all nodes"
    return None


@contextmanager
def _mark(config: SearchConfig) -> Iterator[str | None]:
    """Leave a file where the checkpoints go, for the nodes to find; none where that is a URL or not made yet."""
    place = Path(config.storage or config.folder).absolute()
    if "://" in (config.storage or "") or not place.is_dir():
        yield None
        return
    path = place / f".node-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _on_each(
    nodes: list[Node], function: Callable[..., Any], arguments: tuple[Any, ...], report: Report
) -> Iterator[tuple[Node, Any]]:
    """Call a function once on every node, at the same time; yield what it returns as it comes."""
    waiting: dict[ray.ObjectRef[Any], Node] = {}
    for node in nodes:
        pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        call: Any = ray.remote(function)
        waiting[call.options(num_cpus=0, max_retries=0, scheduling_strategy=pinned).remote(*arguments)] = node
    while waiting:
        (done,), _ = ray.wait(list(waiting))
        node = waiting.pop(done)
        try:
            result = ray.get(done)
        except RayTaskError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise OdenasError(f"{_name(node)} cannot run trials: {lines[-1].strip()}") from None
        except RayError:
            report(f"{_name(node)} was lost; the search goes on without it")
            continue
        yield node, result


def _name(node: Node) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
