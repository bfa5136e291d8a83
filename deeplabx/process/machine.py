"""What the CPU and the GPU driver of this machine are called, as the kernel tells it."""

import platform
import re
from pathlib import Path

from deeplabx.process.memory import ROOT, text_of


def cpu_model(root: Path = ROOT) -> str:
    """The CPU's name; empty where it is not known. root: where /proc is."""
    found = re.search(r"^model name\s*: (.+)$", text_of(root / "proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def nvidia_driver(root: Path = ROOT) -> str:
    """The version of the NVIDIA driver that the kernel has loaded; empty where it is not known. Unlike
    nvidia-smi, which takes a second, this only reads a file. root: where /proc is.
    """
    found = re.search(
        r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s",
        text_of(root / "proc/driver/nvidia/version"),
        re.MULTILINE,
    )
    return found[1] if found else ""
