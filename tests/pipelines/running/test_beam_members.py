"""What pixdex takes of Beam that Beam promises to nobody is still there, under the bounds that `pyproject.toml` sets.

A newer minor release may do without any of it: before the bound is raised, this names what is gone, and who needs it.
"""

import importlib
import inspect
from operator import attrgetter
from pathlib import Path
from typing import Final

import apache_beam
import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlConnection, GrpcWorkerHandler
from apache_beam.runners.worker.data_plane import _GrpcDataChannel

HANDLERS: Final = "apache_beam.runners.portability.fn_api_runner.worker_handlers"
DATA: Final = "apache_beam.runners.worker.data_plane"
ENVIRONMENTS: Final = "apache_beam.transforms.environments"
PORTABILITY: Final = "apache_beam.runners.portability"
OPTIONS: Final = "apache_beam.options.pipeline_options"
PROCESSES: Final = "pipelines/running/processes.py"
PREFLIGHT: Final = "pipelines/running/preflight.py"
LOOPBACK: Final = "pipelines/running/loopback.py"
AT_ONCE: Final = "pipelines/running/graph/at_once.py"
CORE: Final = "apache_beam.transforms.core"

FUNCTIONS: Final = [
    (PROCESSES, f"{HANDLERS}:ControlConnection._read", ["self"]),
    (PROCESSES, f"{HANDLERS}:ControlConnection.push", ["self", "req"]),
    (PROCESSES, f"{HANDLERS}:ControlFuture.set", ["self", "response"]),
    (PROCESSES, f"{HANDLERS}:ControlFuture.__init__", ["self", "instruction_id", "response"]),
    (PROCESSES, f"{HANDLERS}:GrpcWorkerHandler.__init__", ["self", "state", "provision_info", "grpc_server"]),
    (PROCESSES, f"{HANDLERS}:GrpcWorkerHandler.close", ["self"]),
    (
        PROCESSES,
        f"{HANDLERS}:ExternalWorkerHandler.__init__",
        ["self", "external_payload", "state", "provision_info", "grpc_server"],
    ),
    (PROCESSES, f"{HANDLERS}:WorkerHandler.register_environment", ["urn", "payload_type"]),
    (PROCESSES, f"{HANDLERS}:WorkerHandler.start_worker", ["self"]),
    (PROCESSES, f"{HANDLERS}:WorkerHandler.stop_worker", ["self"]),
    (
        PROCESSES,
        f"{DATA}:_GrpcDataChannel.input_elements",
        ["self", "instruction_id", "expected_inputs", "abort_callback"],
    ),
    (PROCESSES, f"{DATA}:_GrpcDataChannel._read_inputs", ["self", "elements_iterator"]),
    (PROCESSES, f"{ENVIRONMENTS}:Environment.__init__", ["self", "capabilities", "artifacts", "resource_hints"]),
    (PROCESSES, f"{ENVIRONMENTS}:Environment.register_urn", ["urn", "parameter_type", "constructor"]),
    (PROCESSES, f"{ENVIRONMENTS}:Environment.to_runner_api_parameter", ["self", "context"]),
    (PROCESSES, f"{ENVIRONMENTS}:python_sdk_capabilities", []),
    (PREFLIGHT, f"{PORTABILITY}.job_server:JavaJarJobServer.local_jar", ["url", "jar_cache_dir", "user_agent"]),
    (PREFLIGHT, f"{PORTABILITY}.job_server:JavaJarJobServer.path_to_beam_jar", ["gradle_target", "artifact_id"]),
    (PREFLIGHT, f"{PORTABILITY}.prism_runner:PrismJobServer.subprocess_cmd_and_endpoint", ["self"]),
    (PREFLIGHT, f"{PORTABILITY}.flink_runner:FlinkRunner.add_http_scheme", ["flink_master"]),
    (PREFLIGHT, f"{OPTIONS}:PortableOptions.lookup_environment_option", ["self", "key", "default"]),
    (
        "pipelines/running/dataflow.py",
        "apache_beam.runners.dataflow.dataflow_runner:DataflowRunner.get_default_gcp_region",
        ["self"],
    ),
    ("pipelines/running/worker.py", "apache_beam.runners.worker.sdk_worker_main:main", ["unused_argv"]),
    (AT_ONCE, f"{CORE}:DoFn.get_function_arguments", ["self", "func"]),
    (AT_ONCE, "apache_beam.pvalue:AsIter._from_runtime_iterable", ["it", "options"]),
    (AT_ONCE, "apache_beam.pvalue:AsIter._view_options", ["self"]),
    (AT_ONCE, "apache_beam.pipeline:Pipeline.apply", ["self", "transform", "pvalueish", "label"]),
    ("the options of the jobs", f"{OPTIONS}:PipelineOptions._add_argparse_args", ["parser"]),
]
"""Who needs it, what it is, and its parameters."""

CONSTANTS: Final = [
    (AT_ONCE, f"{CORE}:_DoFnParam"),
    (AT_ONCE, f"{CORE}:_MultiParDo"),
    (AT_ONCE, "apache_beam.transforms.ptransform:_NamedPTransform"),
    (LOOPBACK, f"{HANDLERS}:grpc"),
    (LOOPBACK, f"{PORTABILITY}.abstract_job_service:grpc"),
    (LOOPBACK, f"{PORTABILITY}.local_job_service:grpc"),
    (LOOPBACK, "apache_beam.runners.worker.worker_pool_main:grpc"),
    (PROCESSES, f"{HANDLERS}:ExternalWorkerHandler.host_from_worker"),
    (PROCESSES, f"{HANDLERS}:BeamFnControlServicer._DONE_MARKER"),
    (PREFLIGHT, f"{PORTABILITY}.flink_runner:MAGIC_HOST_NAMES"),
    (PREFLIGHT, f"{OPTIONS}:FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS"),
]


def looked_up(who: str, member: str) -> object:
    """Returns a member; fails with its name and who needs it."""
    module, _, path = member.partition(":")
    try:
        return attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError):
        pytest.fail(f"Beam's {member} is gone, and {who} needs it", pytrace=False)


@pytest.mark.parametrize(("who", "member", "parameters"), FUNCTIONS, ids=[member for _, member, _ in FUNCTIONS])
def test_a_function_takes_what_it_is_given(who: str, member: str, parameters: list[str]) -> None:
    function = looked_up(who, member)
    assert callable(function)
    assert [*inspect.signature(function).parameters] == parameters, f"Beam's {member} has changed, see to {who}"


@pytest.mark.parametrize(("who", "member"), CONSTANTS, ids=[member for _, member in CONSTANTS])
def test_a_constant_is_there(who: str, member: str) -> None:
    looked_up(who, member)


@pytest.mark.parametrize("name", ["_push_queue", "_futures_by_id", "_read_thread"])
def test_a_connection_has_what_the_end_of_a_worker_is_told_through(name: str) -> None:
    assert hasattr(ControlConnection(), name), f"Beam's ControlConnection.{name} is gone, and {PROCESSES} needs it"


def test_steps_have_what_they_are_worked_off_by() -> None:
    outputs = beam.ParDo(beam.DoFn()).with_outputs("one", main="other")
    assert {"_do_transform", "_main_tag", "_tags"} <= vars(outputs).keys()
    assert outputs._do_transform.raw_side_inputs == ((), {})
    assert ("label" >> outputs).transform is outputs


@pytest.mark.parametrize("name", ["control_conn", "data_conn", "control_address"])
def test_a_handler_has_its_connections(name: str) -> None:
    assert name in GrpcWorkerHandler.__init__.__code__.co_names, f"Beam's GrpcWorkerHandler.{name} is gone: {PROCESSES}"


def test_what_is_replaced_is_what_beam_calls() -> None:
    """A thread that is kept in another place, or a method that is looked up earlier, would be Beam's own again."""
    assert "_read_thread" in ControlConnection.set_input.__code__.co_names
    started_later = [each for each in _GrpcDataChannel.set_inputs.__code__.co_consts if inspect.iscode(each)]
    assert any("_read_inputs" in code.co_names for code in started_later)


def test_no_other_module_of_beam_opens_servers_in_a_launcher() -> None:
    """Those that do listen on every address of the machine unless they are kept from it."""
    folder = Path(apache_beam.__file__).parent / "runners"
    opening = {file.stem for file in folder.rglob("*.py") if "grpc.server(" in file.read_text(encoding="utf-8")}
    tests = {name for name in opening if name.endswith("_test")}
    expansion = {"expansion_service_main"}  # a program of its own, for other languages
    assert opening - tests - expansion == {
        "worker_handlers",
        "abstract_job_service",
        "local_job_service",
        "worker_pool_main",
    }


def test_a_member_that_is_gone_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"ControlConnection\._gone is gone, and somebody needs it"):
        looked_up("somebody", f"{HANDLERS}:ControlConnection._gone")
