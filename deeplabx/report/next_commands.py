"""What can be done with a trained run: command lines that can be copied."""

import shlex
from pathlib import Path


def evaluate_words(run: Path, *, plugins: str = "") -> str:
    """plugins: what the command line needs beside the folder, with a blank before it."""
    return f"deeplabx eval {shlex.quote(str(run))}{plugins}"


def predict_words(run: Path, *, plugins: str = "") -> str:
    return f"deeplabx predict {shlex.quote(str(run))} IMAGE{plugins}"


def next_line(run: Path, *, plugins: str = "") -> str:
    """The line of a terminal after a training."""
    return f"next: {evaluate_words(run, plugins=plugins)}   or   {predict_words(run, plugins=plugins)}"


def resume_sweep_words(sweep: Path, *, plugins: str = "") -> str:
    return f"deeplabx sweep resume {shlex.quote(str(sweep))}{plugins}"


def compare_words(folder: Path) -> str:
    return f"deeplabx compare {shlex.quote(str(folder))}"
