"""The Kubernetes manifests of `deploy/kubernetes`, and the pods and containers inside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNITS = {"m": 1 << 20, "Mi": 1 << 20, "Gi": 1 << 30}


@dataclass(frozen=True)
class Manifest:
    """One document of a file."""

    path: Path
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.path.name}:{self.kind}"


@dataclass(frozen=True)
class Container:
    """A container, with what its pod says for all of them."""

    manifest: Manifest
    pod: dict[str, Any]
    content: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.content["name"])

    @property
    def image(self) -> str:
        return str(self.content["image"])

    @property
    def is_pixdex(self) -> bool:
        return self.image.startswith("pixdex:")

    @property
    def command(self) -> list[str]:
        return [*self.content.get("command", []), *self.content.get("args", [])]

    @property
    def security(self) -> dict[str, Any]:
        """What holds for it: its own words before its pod's."""
        return {**self.pod.get("securityContext", {}), **self.content.get("securityContext", {})}

    @property
    def variables(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.content.get("env", []) if "value" in each}

    def __str__(self) -> str:
        return f"{self.manifest}:{self.name}"


def read() -> list[Manifest]:
    """Returns every manifest but the kustomization, which Kubernetes never sees."""
    return [
        Manifest(path, content)
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for content in yaml.safe_load_all(path.read_text())
    ]


def one(kind: str, name: str | None = None) -> Manifest:
    """Returns the only manifest of a kind, and of a name if one is given."""
    (manifest,) = [each for each in read() if each.kind == kind and name in (None, each.name)]
    return manifest


def flink_pod_templates(flink: Manifest) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the pod templates that the Flink operator completes, by their role."""
    for role in ("jobManager", "taskManager"):
        yield role, flink.content["spec"][role]["podTemplate"]


def containers(manifest: Manifest) -> Iterator[Container]:
    """Yields all containers of a manifest, sidecars too, with what the Flink operator puts into its own."""
    spec = manifest.content.get("spec", {})
    if manifest.kind == "FlinkDeployment":
        for role, template in flink_pod_templates(manifest):
            size = {key: str(value) for key, value in spec[role]["resource"].items()}
            added = {"image": spec["image"], "resources": {"requests": size, "limits": size}}
            for each in _of_pod(template["spec"]):
                completed = {**added, **each} if each["name"] == "flink-main-container" else each
                yield Container(manifest, template["spec"], completed)
        return
    if manifest.kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if "template" in spec:
        pod = spec["template"]["spec"]
        for each in _of_pod(pod):
            yield Container(manifest, pod, each)


def all_containers() -> list[Container]:
    """Returns the containers of all manifests."""
    return [each for manifest in read() for each in containers(manifest)]


def size_in_bytes(quantity: str) -> int:
    """Reads a quantity of memory, as Kubernetes and the Flink operator spell it."""
    digits = quantity.rstrip("MGim")
    return int(digits) * UNITS[quantity.removeprefix(digits)]


def _of_pod(pod: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod.get("initContainers", [])
    yield from pod["containers"]
