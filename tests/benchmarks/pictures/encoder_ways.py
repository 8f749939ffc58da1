"""What a batch of pictures costs on this CPU, by ways of running the same model, and how far their vectors differ.

    python -m tests.benchmarks.pictures.encoder_ways [--model ViT-B-32] [--batch 64] [--threads 2] [--rounds 3]
        [--ways eager,channels_last,bfloat16,compile,onnxruntime,openvino] [--seed 0] [--output FILE.json]

The ways take turns, batch by batch, on the same random pixels. `eager` is how `OpenClipEncoder` runs a model; others
are channels-last memory, bfloat16 under autocast (only on CPUs with AVX512-BF16 or AMX: elsewhere it is emulated),
`torch.compile`, and the model exported to ONNX and run by ONNX Runtime or OpenVINO, where these are installed (they are
no part of pixdex). A way that cannot run here says why. Weights are random. Medians of seconds of a batch, and of CPU
seconds, which other work on the machine changes less. Exporting and compiling are not counted. Some minutes.
"""

import argparse
import copy
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.vector_folder import unit

WAYS: Final = ("eager", "channels_last", "bfloat16", "compile", "onnxruntime", "openvino")

Pixels = NDArray[np.float32]
Run = Callable[[Pixels], NDArray[np.float32]]


def eager(model: Callable[..., Any], dtype: torch.dtype = torch.float32, **memory: Any) -> Run:
    """Torch as it is."""

    def run(pixels: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            vectors: NDArray[np.float32] = model(torch.from_numpy(pixels).to(**memory)).float().numpy()
            return vectors

    return run


def exported(model: torch.nn.Module, pixels: Pixels, folder: Path) -> str:
    """The model as a file of ONNX."""
    file = str(folder / "model.onnx")
    torch.onnx.export(model, (torch.from_numpy(pixels),), file, dynamo=True, external_data=True, verbose=False)
    return file


def by_onnxruntime(file: str, threads: int) -> Run:
    """ONNX Runtime on the CPU."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda pixels: np.asarray(session.run(None, {name: pixels})[0], np.float32)


def by_openvino(file: str, threads: int) -> Run:
    """OpenVINO on the CPU, in float32, as large a batch as it is given."""
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(file), "CPU", settings)
    return lambda pixels: np.asarray(compiled([pixels])[0], np.float32)


def why_not(way: str) -> str:
    """Why a way cannot be run here; nothing if it can."""
    if way == "bfloat16" and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "this CPU has neither AVX512-BF16 nor AMX"
    if way in ("onnxruntime", "openvino"):
        missing = [name for name in (way, "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else ""
    return ""


def warm(model: torch.nn.Module, names: list[str], pixels: Pixels, threads: int, folder: Path) -> dict[str, Run]:
    """Those that can be run here, warm."""
    runs: dict[str, Run] = {}
    for way in names:
        if reason := why_not(way):
            print(f"{way}: {reason}", flush=True)
            continue
        if way == "channels_last":
            last = torch.channels_last
            runs[way] = eager(copy.deepcopy(model).to(memory_format=last), memory_format=last)
        elif way == "compile":
            runs[way] = eager(torch.compile(model))
        elif way in ("onnxruntime", "openvino"):
            file = folder / "model.onnx"
            run_of = by_onnxruntime if way == "onnxruntime" else by_openvino
            runs[way] = run_of(str(file) if file.exists() else exported(model, pixels, folder), threads)
        else:
            runs[way] = eager(model, torch.bfloat16 if way == "bfloat16" else torch.float32)
        runs[way](pixels)
    return runs


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = open_clip.create_model(options.model, pretrained=None).eval().requires_grad_(False).visual
    side = open_clip.get_model_config(options.model)["vision_cfg"]["image_size"]
    shape = (options.batch, 3, side, side)
    pixels = np.random.default_rng(options.seed).standard_normal(shape, np.float32)
    with TemporaryDirectory() as folder:
        runs = warm(model, options.ways.split(","), pixels, options.threads, Path(folder))
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in runs}
        vectors: dict[str, Pixels] = {}
        for _ in range(options.rounds):
            for way, run in runs.items():
                started, cpu = time.perf_counter(), time.process_time()
                vectors[way] = unit(run(pixels))
                taken[way].append((time.perf_counter() - started, time.process_time() - cpu))
    first = next(iter(runs))
    found = {
        way: {
            "seconds": statistics.median(seconds for seconds, _ in times),
            "cpu_seconds": statistics.median(seconds for _, seconds in times),
            "cosine": float((vectors[first] * vectors[way]).sum(axis=1).min()),
        }
        for way, times in taken.items()
    }
    report.write(options.output, {"machine": measuring.machine(), "batch": options.batch, "found": found})
    rows = [
        [way, f"{one['seconds']:.2f}", f"{one['cpu_seconds']:.2f}", f"{one['cosine']:.6f}"]
        for way, one in found.items()
    ]
    print(report.table(["", "seconds", "CPU seconds", f"lowest cosine to {first}"], rows))


if __name__ == "__main__":
    main()
