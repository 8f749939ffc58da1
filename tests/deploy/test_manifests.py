"""The Kubernetes manifests: valid, careful with rights and resources, and in agreement with each other."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, PortableOptions, StandardOptions

from pipelines import worker_pool
from tests.deploy import commands, manifests, versions
from tests.deploy.flink_operator import SESSION_CLUSTER
from tests.deploy.manifests import Container, Manifest
from transforms.upkeep import lease

MANIFESTS = manifests.read()
CONTAINERS = manifests.all_containers()
OURS = [each for each in CONTAINERS if each.is_pixdex]
SUBMITTERS = [each for each in OURS if each.command[0] == "pixdex" and each.command[1] != "serve"]
OPERATOR_SCHEMAS = "@kubernetes-models/flink@1.0.1"
"""An npm package made of the operator's own definition of a FlinkDeployment."""

of_every_manifest = pytest.mark.parametrize("manifest", MANIFESTS, ids=str)
of_every_container = pytest.mark.parametrize("container", CONTAINERS, ids=str)
of_every_submitter = pytest.mark.parametrize("container", SUBMITTERS, ids=str)


def the_pool() -> Container:
    (pool,) = [each for each in OURS if "pipelines.worker_pool" in each.command]
    return pool


def pool_options() -> Any:
    python, *flags, module = the_pool().command[:4]
    argv = the_pool().command[4:]
    assert (python, flags) == ("python", ["-P", "-m"]) and module == "pipelines.worker_pool"
    return worker_pool._options(argv)


def beam_options(container: Container) -> PipelineOptions:
    return PipelineOptions(list(commands.parsed(container.command).others))


# What Kubernetes and the Flink operator accept.


@pytest.mark.parametrize("release", [versions.read()["KUBERNETES"], kubernetes_validate.latest_version()])
@pytest.mark.parametrize("manifest", [each for each in MANIFESTS if each.kind != "FlinkDeployment"], ids=str)
def test_kubernetes_knows_every_field_from_the_oldest_release_on(manifest: Manifest, release: str) -> None:
    kubernetes_validate.validate(manifest.content, release, strict=True)


@pytest.mark.parametrize("release", [versions.read()["KUBERNETES"], kubernetes_validate.latest_version()])
@pytest.mark.parametrize("role", ["jobManager", "taskManager"])
def test_kubernetes_knows_every_field_of_flinks_pods(role: str, release: str) -> None:
    template = dict(manifests.flink_pod_templates(manifests.one("FlinkDeployment")))[role]
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "flink"}, "template": template}
    kubernetes_validate.validate(pod, release, strict=True)


def test_a_misspelled_field_is_found() -> None:
    content = json.loads(json.dumps(manifests.one("CronJob").content).replace("concurrencyPolicy", "concurrency"))
    with pytest.raises(kubernetes_validate.ValidationError, match="concurrency"):
        kubernetes_validate.validate(content, versions.read()["KUBERNETES"], strict=True)


def test_the_flink_operator_knows_every_field_of_the_session_cluster() -> None:
    flink = manifests.one("FlinkDeployment").content
    assert flink["apiVersion"] == "flink.apache.org/v1beta1"
    jsonschema.validate(flink["spec"], SESSION_CLUSTER)


@pytest.mark.slow
def test_the_operators_own_definition_accepts_the_session_cluster(tmp_path: Path) -> None:
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("npm and node are not here: they bring the operator's definition and run its check")
    install = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", OPERATOR_SCHEMAS]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True)
    package = tmp_path / "node_modules" / "@kubernetes-models" / "flink"
    made_of = re.findall(r"release-([\d.]+)/", (package / "package.json").read_text())
    assert set(made_of) == {versions.read()["FLINK_OPERATOR"]}
    (package.parent / "check.mjs").write_text(
        "import {readFileSync} from 'node:fs'\n"
        "import {validate} from './flink/_schemas/FlinkApacheOrgV1beta1FlinkDeployment.js'\n"
        "validate(JSON.parse(readFileSync(0, 'utf8')))\n"
        "console.log(JSON.stringify(validate.errors ?? []))\n"
    )
    flink = manifests.one("FlinkDeployment").content
    wrong = {**flink, "spec": {**flink["spec"], "flinkVersion": "v1_99"}}
    for content, errors in ((flink, []), (wrong, ["/spec/flinkVersion"])):
        said = subprocess.run(
            ["node", "check.mjs"],
            cwd=package.parent,
            input=json.dumps(content),
            capture_output=True,
            check=True,
            encoding="utf-8",
        )
        assert sorted({each["instancePath"] for each in json.loads(said.stdout)}) == errors


@of_every_manifest
def test_everything_lies_in_the_namespace_pixdex(manifest: Manifest) -> None:
    metadata = manifest.content["metadata"]
    assert metadata.get("namespace", metadata["name"] if manifest.kind == "Namespace" else None) == "pixdex"


def test_the_kustomization_holds_all_but_the_job_that_is_run_by_hand() -> None:
    kustomization = yaml.safe_load((manifests.KUBERNETES / "kustomization.yaml").read_text())
    files = {each.path.name for each in MANIFESTS}
    assert files - set(kustomization["resources"]) == {"build-job.yaml"}
    assert set(kustomization["resources"]) <= files


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
def test_the_kustomization_renames_the_image_everywhere(tmp_path: Path) -> None:
    shutil.copytree(manifests.KUBERNETES, tmp_path / "kubernetes")
    kustomization = tmp_path / "kubernetes" / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("newName: pixdex", "newName: team/pixdex"))
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(kustomization.parent)], capture_output=True, check=True, encoding="utf-8"
    )
    images = set(re.findall(r"image: (.*pixdex.*)", rendered.stdout))
    assert images == {f"team/pixdex:{versions.of_pixdex()}"}


# Who reaches whom.

SUBMITTER, SERVER = "pixdex-submitter", "pixdex-job-server"
JOB_MANAGER, TASK_MANAGER = "pixdex-jobmanager", "pixdex-taskmanager"
OPERATOR, STRANGER = "flink-kubernetes-operator", "somebody"
EVERYBODY = [
    *((name, "pixdex") for name in (SUBMITTER, SERVER, JOB_MANAGER, TASK_MANAGER, STRANGER)),
    *((name, "default") for name in (SUBMITTER, SERVER, JOB_MANAGER, TASK_MANAGER, OPERATOR, STRANGER)),
    (OPERATOR, "elsewhere"),
]


def labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def selects(selector: dict[str, Any], of_it: dict[str, str]) -> bool:
    """Whether a selector of Kubernetes means what has these labels."""
    listed = all(each["operator"] == "In" and of_it.get(each["key"]) in each["values"]
                 for each in selector.get("matchExpressions", []))  # fmt: skip
    return listed and selector.get("matchLabels", {}).items() <= of_it.items()


def lets_in(rule: dict[str, Any], name: str, namespace: str, port: int) -> bool:
    """Whether a rule lets a pod of a namespace in, at a port."""
    if port not in [each["port"] for each in rule.get("ports", [{"port": port}])]:
        return False
    return any(
        selects(each["podSelector"], labels(name))
        and (
            selects(each["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
            if "namespaceSelector" in each
            else namespace == "pixdex"
        )
        for each in rule["from"]
    )


def reaching(target: str, port: int) -> set[tuple[str, str]]:
    """Who reaches a port of a pod, as Kubernetes joins the policies: what any of them lets in is let in."""
    policies = [each.content["spec"] for each in MANIFESTS if each.kind == "NetworkPolicy"]
    of_target = [each for each in policies if selects(each["podSelector"], labels(target))]
    assert of_target and all(each["policyTypes"] == ["Ingress"] for each in of_target)
    rules = [rule for each in of_target for rule in each.get("ingress", [])]
    return {who for who in EVERYBODY if any(lets_in(rule, *who, port) for rule in rules)}


FLINK = {(JOB_MANAGER, "pixdex"), (TASK_MANAGER, "pixdex")}


@pytest.mark.parametrize(
    ("target", "port", "who"),
    [
        (SERVER, 8099, {(SUBMITTER, "pixdex")}),
        (SERVER, 8098, {(SUBMITTER, "pixdex")}),
        (SERVER, 22, set()),
        (JOB_MANAGER, 8081, {(SERVER, "pixdex"), (OPERATOR, "default"), *FLINK}),
        (JOB_MANAGER, 6123, FLINK),
        (TASK_MANAGER, 6122, FLINK),
        (TASK_MANAGER, 50000, FLINK),  # and there it listens on localhost
        (SUBMITTER, 8099, set()),
        (STRANGER, 80, set()),
    ],
)
def test_doors_without_a_password_are_reached_by_those_who_need_them(
    target: str, port: int, who: set[tuple[str, str]]
) -> None:
    assert reaching(target, port) == who


def test_pods_have_the_names_that_the_policies_go_by() -> None:
    flink = dict(manifests.flink_pod_templates(manifests.one("FlinkDeployment")))
    assert {role: each["metadata"]["labels"] for role, each in flink.items()} == {
        "jobManager": labels(JOB_MANAGER),
        "taskManager": labels(TASK_MANAGER),
    }
    assert manifests.one("Deployment", SERVER).content["spec"]["template"]["metadata"]["labels"] == labels(SERVER)
    job, night = manifests.one("Job").content["spec"], manifests.one("CronJob").content["spec"]["jobTemplate"]["spec"]
    assert [each["template"]["metadata"]["labels"] for each in (job, night)] == [labels(SUBMITTER)] * 2


def test_the_doors_are_those_that_the_job_server_and_flink_open() -> None:
    (server,) = manifests.containers(manifests.one("Deployment", SERVER))
    doors = {each["containerPort"] for each in server.content["ports"]}
    policies = {each.name: each.content["spec"] for each in MANIFESTS if each.kind == "NetworkPolicy"}
    assert {each["port"] for each in policies["job-server"]["ingress"][0]["ports"]} == doors
    assert any(each.endswith(f":{policies['flink-rest']['ingress'][0]['ports'][0]['port']}") for each in server.command)


# Rights and resources.


@of_every_container
def test_no_container_is_root_or_can_become_it(container: Container) -> None:
    security = container.security
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


@of_every_container
def test_every_container_says_what_it_needs_and_where_it_ends(container: Container) -> None:
    resources = container.content["resources"]
    assert {"cpu", "memory"} == set(resources["requests"]) == set(resources["limits"])
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_pixdex_is_one_user_everywhere_so_that_what_one_writes_another_can_mend() -> None:
    assert len({(each.security["runAsUser"], each.security["runAsGroup"], each.pod["securityContext"]["fsGroup"])
                for each in OURS}) == 1  # fmt: skip


def test_pixdex_is_the_user_that_the_image_makes() -> None:
    users = re.findall(r"^USER\s+(\d+):(\d+)", (manifests.DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert {(str(each.security["runAsUser"]), str(each.security["runAsGroup"])) for each in OURS} == {users[-1]}


def test_everyone_has_the_same_data_at_the_same_place() -> None:
    mounts = [mount for each in OURS for mount in each.content["volumeMounts"] if mount["name"] == "data"]
    assert len(mounts) == len(OURS)
    assert {json.dumps({"name": each["name"], "mountPath": each["mountPath"]}) for each in mounts} == {
        json.dumps({"name": "data", "mountPath": "/data"})
    }
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for each in OURS
        for volume in each.pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {manifests.one("PersistentVolumeClaim").name}


# The worker pool beside a TaskManager.


def test_a_task_manager_starts_only_when_its_worker_pool_listens() -> None:
    pool = the_pool()
    assert pool.content in pool.pod["initContainers"] and pool.content["restartPolicy"] == "Always"
    assert f"('localhost', {pool_options().port})" in pool.content["startupProbe"]["exec"]["command"][-1]


def test_a_worker_pool_that_ceases_to_listen_is_seen_and_started_anew() -> None:
    pool = the_pool().content
    assert pool["readinessProbe"]["exec"] == pool["livenessProbe"]["exec"] == pool["startupProbe"]["exec"]


def test_the_probe_says_whether_someone_listens() -> None:
    _, *probe = the_pool().content["startupProbe"]["exec"]["command"]
    with worker_pool.serving(0) as port:
        listening = [each.replace(str(pool_options().port), str(port)) for each in probe]
        assert subprocess.run(["python", *listening], check=False).returncode == 0
    assert subprocess.run(["python", *listening], check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_a_worker_pool_holds_a_worker_for_each_slot() -> None:
    slots = manifests.one("FlinkDeployment").content["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"]
    assert pool_options().workers == int(slots)


def test_workers_share_the_cores_of_their_container_not_those_of_the_machine() -> None:
    pool = the_pool()
    threads = int(pool.variables["OMP_NUM_THREADS"])
    assert threads * pool_options().workers == int(pool.content["resources"]["limits"]["cpu"])


# Commands.


def test_a_command_runs_by_hand_and_one_every_night() -> None:
    assert {each.manifest.kind for each in SUBMITTERS} == {"Job", "CronJob"}


@of_every_submitter
def test_every_command_is_one_that_pixdex_accepts(container: Container) -> None:
    commands.parsed(container.command)


@of_every_submitter
def test_a_job_goes_through_the_job_server_to_the_workers_beside_the_task_managers(container: Container) -> None:
    options = beam_options(container)
    portable = options.view_as(PortableOptions)
    assert options.view_as(StandardOptions).runner == "PortableRunner"
    assert (portable.environment_type, portable.environment_config) == (
        "EXTERNAL",
        f"localhost:{pool_options().port}",
    )
    host, port = portable.job_endpoint.split(":")
    service = manifests.one("Service", host).content["spec"]
    assert int(port) in [each["port"] for each in service["ports"]]


@of_every_submitter
def test_a_job_uses_every_slot_and_a_worker_for_each(container: Container) -> None:
    options, flink = beam_options(container), manifests.one("FlinkDeployment").content["spec"]
    slots = int(flink["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert options.view_as(FlinkRunnerOptions).parallelism == slots * flink["taskManager"]["replicas"]
    assert options.view_as(PortableOptions).sdk_worker_parallelism == str(pool_options().workers)


@of_every_submitter
def test_a_job_asks_for_no_more_than_its_workers_have(container: Container) -> None:
    options = commands.parsed(container.command).options
    limits, workers = the_pool().content["resources"]["limits"], pool_options().workers
    if hasattr(options, "worker_memory"):
        assert options.worker_memory is not None, "a worker sees the machine's memory, not its container's"
        assert options.worker_memory * workers <= manifests.size_in_bytes(limits["memory"])
    if hasattr(options, "encoder_threads"):
        assert options.encoder_threads is not None, "the launcher would count the cores of its machine"
        assert options.encoder_threads * workers <= int(limits["cpu"])


def test_every_night_reindexes_the_root_of_the_first_build() -> None:
    (nightly,) = [one.command for one in SUBMITTERS if one.manifest.kind == "CronJob"]
    (first,) = [one.command for one in SUBMITTERS if one.manifest.kind == "Job"]
    assert (nightly[1], first[1]) == ("reindex", "build")
    night, build = commands.parsed(nightly), commands.parsed(first)
    assert (night.options.root, night.options.worker_memory) == (build.options.root, build.options.worker_memory)
    assert night.others == build.others


# What watches over the commands.


def test_nights_never_overlap() -> None:
    assert manifests.one("CronJob").content["spec"]["concurrencyPolicy"] == "Forbid"


@of_every_submitter
def test_what_was_interrupted_is_run_again_but_a_wrong_command_is_not(container: Container) -> None:
    spec = container.manifest.content["spec"]
    job = spec["jobTemplate"]["spec"] if container.manifest.kind == "CronJob" else spec
    assert job["backoffLimit"] > 0 and container.pod["restartPolicy"] == "Never"
    (wrong,) = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert wrong == {"containerName": container.name, "operator": "In", "values": [2]}


def test_a_night_is_tried_until_the_lease_of_a_killed_pod_is_dead() -> None:
    tries = manifests.one("CronJob").content["spec"]["jobTemplate"]["spec"]["backoffLimit"]
    # Kubernetes waits 10 s before the second try, then twice as long each time, six minutes at most.
    assert sum(min(10 << number, 360) for number in range(tries)) > lease.DEAD_SECONDS + lease.RENEWED_EVERY


def test_the_job_server_finds_the_flink_cluster_and_listens_where_its_service_looks() -> None:
    deployment = manifests.one("Deployment", SERVER)
    (server,) = manifests.containers(deployment)
    words = dict(each.removeprefix("--").split("=", 1) for each in server.command)
    assert words["flink-master"] == f"{manifests.one('FlinkDeployment').name}-rest:8081"
    service = manifests.one("Service", deployment.name).content["spec"]
    assert service["selector"] == deployment.content["spec"]["template"]["metadata"]["labels"]
    listens = {each["name"]: each["containerPort"] for each in server.content["ports"]}
    assert listens == {"job": int(words["job-port"]), "artifact": int(words["artifact-port"])}
    assert {each["targetPort"]: each["port"] for each in service["ports"]} == listens


def test_the_job_server_gives_an_address_that_other_pods_reach() -> None:
    (server,) = manifests.containers(manifests.one("Deployment", SERVER))
    assert "--job-host=$(POD_IP)" in server.command
    (address,) = [each for each in server.content["env"] if each["name"] == "POD_IP"]
    assert address["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
