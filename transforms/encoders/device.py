"""Chooses where a torch model computes: the device asked for, or the best there is, and never a silent fall-back."""

import torch

from transforms.errors import UsageError


def choose_device(asked: str) -> torch.device:
    """`auto` takes cuda, else mps, else cpu; anything else is taken literally.

    Raises UsageError when it is not a device of this machine.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = {"cpu": True, "cuda": gpus > 0, "mps": torch.backends.mps.is_available()}
    available |= {f"cuda:{number}": True for number in range(gpus)}
    present = [name for name, is_there in available.items() if is_there]
    if asked == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if asked in present:
        return torch.device(asked)
    what = "not on this machine" if asked.startswith(("cuda", "mps")) else "no device"
    raise UsageError(f"device {asked!r} is {what}: choose auto or one of {', '.join(sorted(present))}")


def inference_dtype(device: torch.device) -> torch.dtype:
    """What matrix products run in: bfloat16 on GPUs that have it, float16 on those that do not, float32 elsewhere."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
