"""The files of docs/ for clusters: whatever can be checked of them without such a cluster."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from ray.autoscaler._private.util import prepare_config, validate_config

from odenas.search.app import app

DOCS = Path(__file__).resolve().parents[2] / "docs"

# Of https://docs.ray.io/en/master/cluster/kubernetes/references/api.html, KubeRay 1.6.2.
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip
RAY_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
HEAD = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKERS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
    "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip


def accepted(command: str) -> dict[str, Any]:
    """Return the options of a command line of `odenas`, parsed by itself; it raises what the user would be told."""
    name, *arguments = shlex.split(command)[1:]
    context = app.commands[name].make_context(name, arguments)
    return {key: value for key, value in context.params.items() if value is not None}


def job() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((DOCS / "kuberay" / "search.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["RayJob", "PersistentVolumeClaim"]
    found: dict[str, Any] = documents[0]
    assert found["apiVersion"] == "ray.io/v1"
    return found


def test_the_ray_job_has_fields_that_kuberay_knows() -> None:
    spec = job()["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= RAY_JOB
    assert set(cluster) <= RAY_CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert group["replicas"] == group["minReplicas"] <= group["maxReplicas"]
    parameters = [group["rayStartParams"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    # The operator takes texts alone.
    assert all(isinstance(value, str) for group in parameters for value in group.values())


def test_the_pods_of_the_ray_job_are_alike() -> None:
    document = job()
    cluster = document["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    (image,) = {container["image"] for pod in pods for container in pod["containers"]}
    dockerfile = (DOCS / "kuberay" / "Dockerfile").read_text()
    assert image in dockerfile
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-py311\n" in dockerfile
    run = accepted(document["spec"]["entrypoint"])["run"]
    for pod in pods:
        for container in pod["containers"]:
            environment = {row["name"]: row["value"] for row in container["env"]}
            assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
            (mount,) = container["volumeMounts"]
            assert mount["name"] in [volume["name"] for volume in pod["volumes"]]
            for path in (run, environment["ODENAS_DATA"]):
                assert Path(path).is_relative_to(mount["mountPath"])


def test_the_file_for_ray_up_passes_ray_s_own_check() -> None:
    given = yaml.safe_load((DOCS / "ray-up" / "cluster.yaml").read_text())
    config = prepare_config(given)
    validate_config(config)
    (kind,) = config["available_node_types"].values()
    assert kind["min_workers"] == config["max_workers"] == len(given["provider"]["worker_ips"])
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        stop, start = commands
        assert stop == ". /shared/ray.env; ray stop"
        assert "--disable-usage-stats" in start
        assert start.startswith(". /shared/ray.env; ")
    with pytest.raises(Exception, match="is not of type"):
        validate_config(config | {"max_workers": "two"})


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_what_a_page_says_to_type_is_accepted_and_what_it_links_to_is_there(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (DOCS.parent / target).exists(), target
    commands = re.findall(r"odenas search --[^'`\n]*", text)
    commands += [f"odenas search {line}" for line in re.findall(r"search\.sbatch (--[^\n`']+)", text)]
    for command in commands:
        assert accepted(command)["run"].startswith("/shared/")
