"""Peak memory of a loss and its gradient above its inputs, each in a process of its own.

    python benchmarks/memory.py                              # everything: some hours
    python benchmarks/memory.py --rows 4096 --ways PyTorch JAX

The process runs the loss once, so that all code is there and compiled, gives back what it freed, and runs it
again: the most that is resident meanwhile, less what was before, is the result (Linux only). For JAX, and TensorFlow
under XLA, the record also has what XLA planned for temporaries and results, which does not depend on who measures.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import machine

machine.confine()

from batches import Setting, embeddings  # noqa: E402
from contenders import WAYS, Contender, contenders, runner  # noqa: E402
from results import NEW, Results  # noqa: E402

ROWS = (512, 4096, 16_384, 65_536)


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (at most since the last reset) of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak(contender: Contender, setting: Setting) -> dict[str, float]:
    """MiB above the inputs in a second run, and those that XLA planned, where it says so."""
    run = runner(contender, setting)
    run()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    run()
    found = {"mib": round(resident("VmHWM") - before, 1)}
    if hasattr(run, "planned_bytes"):
        found["planned_mib"] = round(run.planned_bytes() / 2**20, 1)
    return found


def setting_of(contender: Contender, rows: int) -> Setting:
    """Eight views an image; two where a peer takes no more."""
    pairs = contender.peer is not None and contender.peer.groups == ("pairs",)
    return Setting("pairs", rows, per_class=2) if pairs else Setting("rows", rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--results", type=Path, default=NEW)
    parser.add_argument("--resume", action="store_true", help="leave out what is there already")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one contender by its name, in this process
    options = parser.parse_args()
    everyone = [contender for contender in contenders() if contender.way in options.ways]
    if options.one:
        contender = next(contender for contender in everyone if str(contender) == options.one)
        setting = setting_of(contender, options.rows[0])
        embeddings(setting)
        print(json.dumps(peak(contender, setting)))
        return
    for rows in options.rows:
        for contender in everyone:
            if contender.takes_part(setting_of(contender, rows)):
                measure(contender, rows, options.results, options.resume)


def measure(contender: Contender, rows: int, folder: Path, resume: bool) -> None:
    """Run one in a process of its own, and save what it used."""
    setting = setting_of(contender, rows)
    measured = {
        "rows": rows,
        "positives": setting.per_class - 1,
        "library": contender.library,
        "loss": contender.loss,
        "way": contender.way,
    }
    saved = Results(folder / "memory.json", f"python benchmarks/memory.py --rows {rows}")
    if resume and saved.has(**measured):
        return
    command = [sys.executable, __file__, "--one", str(contender), "--rows", str(rows)]
    with tempfile.TemporaryDirectory() as plans:
        environment = dict(os.environ)
        if contender.way == "TensorFlow XLA":
            own = environment.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{own} --xla_dump_to={plans} --xla_dump_hlo_as_text"
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{contender} at {rows} rows ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    saved.add(measured | found)
    print(f"{rows:>6,d} rows  {contender!s:60s} {found['mib']:>9,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
