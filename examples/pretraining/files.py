"""Files that are written whole or not at all, whatever interrupts the program."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

PARTIAL = ".partial"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its place, force it onto the disk, and move it there in one step.

    Several processes may write the same file: the last one's stays.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(text.encode()))


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what a killed process had begun to write."""
    return all(path.suffix == PARTIAL for path in folder.iterdir())
