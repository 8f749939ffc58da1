"""Where and how torch models compute: the device asked for, or the best there is, and never a silent fall-back."""

import contextlib
import logging
import os
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.interpreter import WORKER_NUMBER

_LOG = logging.getLogger(__name__)


def choose_device(asked: str) -> torch.device:
    """`auto` takes cuda, else mps, else cpu; anything else is taken literally. The choice is logged.

    Of several GPUs, the processes that share this machine as workers take one each, in turn, unless one is named.

    Raises UsageError when it is not a device of this machine.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = [name for name, there in (("cuda", gpus > 0), ("mps", torch.backends.mps.is_available())) if there]
    present += ["cpu", *(f"cuda:{number}" for number in range(gpus))]
    if asked != "auto" and asked not in present:
        what = "not on this machine" if asked.startswith(("cuda", "mps")) else "no device"
        raise UsageError(f"device {asked!r} is {what}: choose auto or one of {', '.join(sorted(present))}")
    chosen = torch.device(present[0] if asked == "auto" else asked)
    number = os.environ.get(WORKER_NUMBER, "")
    if chosen == torch.device("cuda") and gpus > 1 and number.isdecimal():
        chosen = torch.device("cuda", int(number) % gpus)
    _LOG.info("encoder on %s (%s)", chosen, "chosen by auto" if asked == "auto" else "asked for")
    return chosen


def inference_dtype(device: torch.device) -> torch.dtype:
    """What matrix products run in: bfloat16 on GPUs that have it, float16 on those that do not, float32 elsewhere."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@contextlib.contextmanager
def inference(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """No gradients; on a half-precision `dtype`, products in it and sums and norms in float32."""
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        yield


def to_tensor(values: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """The array on its device, without a copy on the CPU; a read-only one is copied, for torch could write to it."""
    return torch.from_numpy(values if values.flags.writeable else values.copy()).to(device)


def to_array(vectors: torch.Tensor) -> NDArray[np.float32]:
    """The tensor as float32 in the main memory."""
    array: NDArray[np.float32] = vectors.float().cpu().numpy()
    return array
