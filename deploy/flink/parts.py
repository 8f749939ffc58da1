"""What a cluster consists of, and how each part is started."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from errors import ClusterError
from installed import distribution, job_server_jar
from processes import spawn, wait

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CONFIGURATION: Final = Path(__file__).resolve().parent / "conf"
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Cluster:
    """What a cluster was started with; kept in its run folder.

    Attributes:
        flink: folder that install.sh filled.
        java: the Java that runs it.
        rest_port: of the JobManager's REST interface.
        job_port: of Beam's job server.
        pool_port: of the worker pool of each TaskManager, on its loopback address.
        rpc_port: of the JobManager, for TaskManagers.
        slots: of each TaskManager.
        namespaces: the network namespaces of the JobManager and of each TaskManager; empty: one TaskManager, all in the
            network of this machine.
        subnet: the first three numbers of their addresses.
    """

    flink: str
    java: str
    rest_port: int
    job_port: int
    pool_port: int
    rpc_port: int
    slots: int
    namespaces: list[str] = field(default_factory=list)
    subnet: str = ""

    @property
    def task_managers(self) -> range:
        """Numbers of the TaskManagers; the JobManager is 0."""
        return range(1, max(2, len(self.namespaces)))

    @property
    def rest(self) -> str:
        """The JobManager's REST interface, HOST:PORT."""
        return f"{self.address(0)}:{self.rest_port}"

    def address(self, number: int) -> str:
        """Where the JobManager or a TaskManager is reached."""
        return f"{self.subnet}.{number + 2}" if self.namespaces else LOOPBACK

    def inside(self, number: int) -> list[str]:
        """What a command begins with to run in the network of the JobManager or of a TaskManager."""
        return ["ip", "netns", "exec", self.namespaces[number]] if self.namespaces else []


def java_command(cluster: Cluster, main: str, memory: Sequence[str], settings: Sequence[str]) -> list[str]:
    """The command line of a part of Flink."""
    return [
        cluster.java,
        *memory,
        f"@{CONFIGURATION / 'jvm.args'}",
        f"-Dlog4j.configurationFile={CONFIGURATION / 'log4j.properties'}",
        "-cp",
        f"{distribution(Path(cluster.flink))}/lib/*",
        main,
        "--configDir",
        str(CONFIGURATION),
        *settings,
    ]


def memory_of(cluster: Cluster, part: str, settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """What Flink's own calculator makes of the configuration: flags for Java, and settings.

    Raises:
        ClusterError: it refuses the configuration.
    """
    jars = distribution(Path(cluster.flink))
    done = subprocess.run(
        [
            *(cluster.java, "-cp", f"{jars}/bin/bash-java-utils.jar:{jars}/lib/*"),
            *("org.apache.flink.runtime.util.bash.BashJavaUtils", f"GET_{part}_RESOURCE_PARAMS"),
            *("--configDir", str(CONFIGURATION), *settings),
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    results = re.findall(r"^BASH_JAVA_UTILS_EXEC_RESULT:(.*)$", done.stdout, re.MULTILINE)
    if done.returncode or len(results) != 2:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[0]
        raise ClusterError(f"Flink cannot make sense of {CONFIGURATION}: {said}")
    return results[0].split(), results[1].split()


def start_job_manager(run: Path, cluster: Cluster) -> None:
    """Starts the JobManager and waits for its REST interface."""
    address = cluster.address(0)
    settings = [
        f"-Djobmanager.rpc.address={address}",
        f"-Djobmanager.rpc.port={cluster.rpc_port}",
        # The JobManager sends files to itself by way of the loopback address.
        f"-Djobmanager.bind-host={'0.0.0.0' if cluster.namespaces else LOOPBACK}",
        f"-Drest.address={address}",
        f"-Drest.bind-address={address}",
        f"-Drest.port={cluster.rest_port}",
        f"-Dparallelism.default={cluster.slots * len(cluster.task_managers)}",
        f"-Dio.tmp.dirs={run}/tmp",
    ]
    memory, computed = memory_of(cluster, "JM", settings)
    main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    spawn(run, "jobmanager", [*cluster.inside(0), *java_command(cluster, main, memory, [*settings, *computed])])
    wait(run, ["jobmanager"], "the JobManager", lambda: overview(cluster) is not None)


def start_task_managers(run: Path, cluster: Cluster) -> None:
    """Starts TaskManagers, each with its worker pool, and waits until the JobManager knows all of them."""
    names = []
    for number in cluster.task_managers:
        pool = [sys.executable, "-P", "-m", "pipelines.worker_pool", "--port", str(cluster.pool_port)]
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        spawn(run, f"worker-pool-{number}", [*cluster.inside(number), *pool], {"PYTHONPATH": path})
        address = cluster.address(number)
        settings = [
            f"-Djobmanager.rpc.address={cluster.address(0)}",
            f"-Djobmanager.rpc.port={cluster.rpc_port}",
            f"-Dtaskmanager.host={address}",
            f"-Dtaskmanager.bind-host={address}",
            f"-Dtaskmanager.numberOfTaskSlots={cluster.slots}",
            f"-Dtaskmanager.resource-id=taskmanager-{number}",
            f"-Dio.tmp.dirs={run}/tmp",
        ]
        memory, computed = memory_of(cluster, "TM", settings)
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        command = java_command(cluster, main, memory, [*settings, *computed])
        spawn(run, f"taskmanager-{number}", [*cluster.inside(number), *command])
        names += [f"worker-pool-{number}", f"taskmanager-{number}"]
    slots = cluster.slots * len(cluster.task_managers)
    wait(run, names, "a TaskManager", lambda: (overview(cluster) or {}).get("slots-total") == slots)
    for number in cluster.task_managers:
        listens = partial(_says, run / f"worker-pool-{number}.log", f":{cluster.pool_port} with ")
        wait(run, names, "a worker pool", listens)


def _says(log: Path, words: str) -> bool:
    return words in log.read_text(errors="replace")


def start_job_server(run: Path, cluster: Cluster) -> None:
    """Starts Beam's job server and waits for its port."""
    jar = job_server_jar(Path(cluster.flink))
    words = ["--flink-master", cluster.rest, "--flink-conf-dir", str(CONFIGURATION)]
    words += ["--job-host", LOOPBACK, "--job-port", str(cluster.job_port), "--artifacts-dir", str(run / "artifacts")]
    words += ["--artifact-port", "0", "--expansion-port", "0"]
    spawn(run, "job-server", [cluster.java, f"@{CONFIGURATION / 'jvm.args'}", "-jar", str(jar), *words])
    wait(run, ["job-server"], "Beam's job server", lambda: listens(cluster.job_port))


def overview(cluster: Cluster) -> dict[str, Any] | None:
    """What the JobManager says of its cluster; None where there is no JobManager."""
    try:
        with urllib.request.urlopen(f"http://{cluster.rest}/overview", timeout=5) as answer:
            said: dict[str, Any] = json.load(answer)
            return said
    except (OSError, ValueError):
        return None


def listens(port: int) -> bool:
    """Tells whether somebody listens at a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
