"""What a runner elsewhere needs: whatever is missing is one line that says how to get it, before any work is done."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    WorkerOptions,
)
from apache_beam.runners.portability import flink_runner, portable_runner, prism_runner
from apache_beam.runners.portability.job_server import JavaJarJobServer
from apache_beam.runners.runner import PipelineRunner

from transforms.errors import PixdexError, UsageError

EMBEDDED: Final = "embed"
"""A job endpoint that is none: the job runs in the launcher, its workers elsewhere."""

_SECONDS: Final = 10.0
_IN_LAUNCHER: Final = tuple(flink_runner.MAGIC_HOST_NAMES)
_KINDS: Final = ("EXTERNAL", "DOCKER", "PROCESS", "LOOPBACK")
_CLUSTER: Final = "deploy/flink/cluster.py starts one on this machine"


def check(runner: PipelineRunner, options: PipelineOptions, words: Sequence[str]) -> None:
    """Looks for everything that a runner of Beam's portability needs; of other runners nothing is known.

    Args:
        runner: that the job goes to.
        options: of Beam.
        words: of the command line: what was not said has a default of Beam, which need not fit.

    Raises:
        UsageError: something is missing, or cannot be reached.
    """
    if isinstance(runner, flink_runner.FlinkRunner):
        _check_flink(options, words)
    elif isinstance(runner, prism_runner.PrismRunner):
        _check_prism(options)
    elif type(runner) is portable_runner.PortableRunner:
        _check_job_server(options)


def outlives_launcher(runner: PipelineRunner | None, options: PipelineOptions) -> bool:
    """Tells whether runner and workers of a job go on when the command that submitted it has ended."""
    portable = options.view_as(PortableOptions)
    if (portable.environment_type or "").upper() == "LOOPBACK":
        return False
    if isinstance(runner, flink_runner.FlinkRunner) and options.view_as(FlinkRunnerOptions).flink_submit_uber_jar:
        return options.view_as(FlinkRunnerOptions).flink_master not in _IN_LAUNCHER
    return isinstance(runner, portable_runner.PortableRunner) and portable.job_endpoint not in (None, EMBEDDED)


def explained(error: Exception, options: PipelineOptions) -> PixdexError | None:
    """Returns what became of a job that a runner gave up for another reason than an error of a worker; None: unknown.

    Args:
        error: what Beam raised.
        options: of Beam, for this job.
    """
    text = " ".join(str(error).split())
    given_up = re.search(r"failed in state \w+: (?:[\w.]+Exception: )*(.+)", text)
    if given_up is None or "Traceback (most recent call last)" in text:
        return None
    why, pool = given_up[1], _pool(options.view_as(PortableOptions))
    if pool and re.match(r"(finishConnect\(\.\.\) failed: )?Connection refused|UNAVAILABLE: io exception", why):
        return PixdexError(f"no worker pool at {pool}, seen from a TaskManager ({_short(why)}): {_start_pool(pool)}")
    if "CANCELLED: client cancelled" in why:
        return PixdexError(
            "a worker died in its work: the log of its pool, or of its container, says how; run the same command "
            "again to go on from here"
        )
    if "NoResourceAvailable" in text or "Could not acquire the minimum required resources" in why:
        return PixdexError(
            "the cluster has no free slots: see whether its TaskManagers run, or ask for fewer with --parallelism, and "
            "run the same command again to go on from here"
        )
    if "docker" in why:
        return PixdexError(f"a worker's container does not start ({_short(why)}): mend Docker there, or {_use_pools()}")
    return PixdexError(
        f"the runner gave the job up ({_short(why)}): its log, and that of the workers, say more; run the same command "
        "again to go on from here"
    )


# --- runners -------------------------------------------------------------------------------------------------------


def _check_flink(options: PipelineOptions, words: Sequence[str]) -> None:
    flink = options.view_as(FlinkRunnerOptions)
    if not any(re.match(r"--flink[-_]version(=|$)", word) for word in words):
        raise UsageError(
            "--flink_version is missing: name the cluster's, one of " + ", ".join(flink.PUBLISHED_FLINK_VERSIONS)
        )
    in_launcher = flink.flink_master in _IN_LAUNCHER
    if not in_launcher:
        _check_cluster(flink)
    _check_environment(options, needed=not in_launcher)
    if options.view_as(PortableOptions).job_endpoint:
        _check_endpoint(options)
        return
    if in_launcher or not flink.flink_submit_uber_jar:
        java = options.view_as(JobServerOptions).job_server_java_launcher
        if shutil.which(java) is None:
            raise UsageError(
                f"{java} is not here, and FlinkRunner starts Beam's job server with it: install Java 17 (Debian: apt "
                "install openjdk-17-jre-headless), name one with --job_server_java_launcher, or use a job server that "
                "runs: --runner PortableRunner --job_endpoint HOST:PORT"
            )
    _check_jar(flink)


def _check_cluster(flink: FlinkRunnerOptions) -> None:
    master = flink_runner.FlinkRunner.add_http_scheme(flink.flink_master).rstrip("/")
    try:
        with urllib.request.urlopen(f"{master}/v1/config", timeout=_SECONDS) as answer:
            version = str(json.load(answer)["flink-version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"no Flink answers at --flink_master {flink.flink_master} ({_reason(error)}): name the JobManager's REST "
            f"address; {_CLUSTER}"
        ) from error
    if not version.startswith(f"{flink.flink_version}."):
        raise UsageError(f"the cluster at {flink.flink_master} runs Flink {version}: name that with --flink_version")


def _check_jar(flink: FlinkRunnerOptions) -> None:
    jar = flink.flink_job_server_jar
    if jar is None:
        target = f":runners:flink:{flink.flink_version}:job-server:shadowJar"
        try:
            JavaJarJobServer.local_jar(JavaJarJobServer.path_to_beam_jar(target))  # kept for the job
        except (RuntimeError, OSError) as error:
            raise UsageError(
                f"Beam cannot download its job server for Flink {flink.flink_version} ({_short(_reason(error))}): name "
                "its jar with --flink_job_server_jar; deploy/flink/install.sh makes one"
            ) from error
    elif "://" not in jar and not Path(jar).is_file():
        raise UsageError(f"--flink_job_server_jar {jar} is no file: deploy/flink/install.sh makes it and says where")


def _check_prism(options: PipelineOptions) -> None:
    _check_environment(options, needed=False)
    if options.view_as(PortableOptions).job_endpoint:
        _check_endpoint(options)
        return
    location, build = options.view_as(PrismRunnerOptions).prism_location, "bash deploy/prism/install.sh builds it"
    if location is None:
        server = prism_runner.PrismJobServer(options)
        try:
            server.subprocess_cmd_and_endpoint()  # kept for the job
        except (RuntimeError, OSError, ValueError) as error:
            why = _short(_reason(error))
            raise UsageError(
                f"Beam cannot download Prism ({why}): name the program with --prism_location; {build}"
            ) from error
    elif "://" not in location and not (Path(location).is_file() and os.access(location, os.X_OK)):
        raise UsageError(f"--prism_location {location} is no program: {build}")


def _check_job_server(options: PipelineOptions) -> None:
    portable = options.view_as(PortableOptions)
    if not portable.job_endpoint:
        raise UsageError(
            f"PortableRunner needs --job_endpoint HOST:PORT of a job server ({_CLUSTER}), or --job_endpoint {EMBEDDED}"
        )
    _check_environment(options, needed=True)
    if portable.job_endpoint != EMBEDDED:
        _check_endpoint(options)
        return
    pool = _pool(portable)
    if pool:
        try:
            host, _, port = pool.rpartition(":")
            socket.create_connection((host, int(port)), _SECONDS).close()
        except (OSError, ValueError) as error:
            raise UsageError(f"no worker pool at {pool} ({_reason(error)}): {_start_pool(pool)}") from error
    elif (portable.environment_type or "DOCKER").upper() == "DOCKER":
        _check_docker()


# --- what they have in common --------------------------------------------------------------------------------------


def _check_environment(options: PipelineOptions, *, needed: bool) -> None:
    portable = options.view_as(PortableOptions)
    kind = (portable.environment_type or "").upper()
    if not kind and needed:
        named = portable.environment_config or portable.environment_options
        if not named and not options.view_as(WorkerOptions).sdk_container_image:
            raise UsageError(
                f"--environment_type is missing, and Beam's own image of a worker has no pixdex: {_use_pools()}, or "
                "--environment_type DOCKER --environment_config IMAGE (deploy/Dockerfile)"
            )
    if kind and kind not in _KINDS and ":" not in kind:
        raise UsageError(f"--environment_type {portable.environment_type} is none of {', '.join(_KINDS)}")
    if kind == "EXTERNAL" and not _pool(portable):
        raise UsageError("--environment_type EXTERNAL needs --environment_config HOST:PORT of the worker pools")


def _check_endpoint(options: PipelineOptions) -> None:
    endpoint = options.view_as(PortableOptions).job_endpoint
    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise UsageError(
                f"no job server answers at --job_endpoint {endpoint} within {_SECONDS:.0f} s: name Beam's job server, "
                f"which is not Flink's own port; {_CLUSTER}"
            ) from error


def _check_docker() -> None:
    if shutil.which("docker") is None:
        why = "there is no docker command"
    else:
        done = subprocess.run(["docker", "version"], capture_output=True, encoding="utf-8", check=False)
        if done.returncode == 0:
            return
        why = _short((done.stderr.strip() or "docker version fails").splitlines()[-1])
    raise UsageError(f"workers would be Docker containers, but {why}: start Docker, or {_use_pools()}")


def _pool(portable: PortableOptions) -> str | None:
    """The address of the worker pools, if the workers are to come from pools."""
    if (portable.environment_type or "").upper() != "EXTERNAL":
        return None
    address: str | None = portable.lookup_environment_option("external_service_address", portable.environment_config)
    return address


def _use_pools() -> str:
    return (
        "--environment_type EXTERNAL --environment_config localhost:50000 with a worker pool beside each TaskManager "
        "(python -P -m pipelines.worker_pool --port 50000)"
    )


def _start_pool(pool: str) -> str:
    return f"start one beside each TaskManager, python -P -m pipelines.worker_pool --port {pool.rpartition(':')[2]}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _short(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
