"""The device that a run asks for."""

import os

import torch

from pretraining.runs import RunError


def choose_device(name: str) -> torch.device:
    """The device of that name, `auto` being a GPU if there is one.

    Raises:
        RunError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RunError(f"--device {name} is not there: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":  # the same numbers in every run, which costs some speed
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device
