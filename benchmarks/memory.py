"""Peak resident memory of a loss and its gradient above its inputs, each case in a process of its own.

python benchmarks/memory.py              # a table
python benchmarks/memory.py CASE ROWS    # one number, in MiB
"""

from __future__ import annotations

import subprocess
import sys

import torch
from cases import CASES, LARGEST


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (at most so far) of this process in MiB. Linux only."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def peak(case: str, rows: int) -> float:
    """MiB that one run adds to what is resident when the inputs are there and the libraries are warm."""
    torch.set_num_threads(2)
    CASES[case](64)()
    run = CASES[case](rows)
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def main() -> None:
    print(f"{'case':34s}" + "".join(f"{rows:>12,d}" for rows in (512, 4096, 16_384, 65_536)) + "   rows")
    for case in CASES:
        cells = []
        for rows in (512, 4096, 16_384, 65_536):
            if rows > LARGEST.get(case, rows):
                cells.append("-")
                continue
            command = [sys.executable, __file__, case, str(rows)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            cells.append(f"{float(done.stdout):,.0f} MiB")
        print(f"{case:34s}" + "".join(f"{cell:>12s}" for cell in cells), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(peak(sys.argv[1], int(sys.argv[2])))
    else:
        main()
