"""A study of pretraining methods: tune every arm alike, run fresh seeds, judge once on test pictures, report.

A study is a TOML file in examples/studies. Its results are JSON lines, one a run; what is there is not run again, so
the same command goes on after any interruption. Two options make it the paper's: the study's name and the device.

Examples:
    python examples/study.py small                          # objects and scenes, on two cores
    python examples/study.py stl10 --data-root data --device cuda --workers 0
    python examples/study.py small --report                 # tables and pictures of the runs so far
    python examples/study.py small --report --results docs/reproduction/small.jsonl --document docs/reproduction.md
"""

import argparse
import signal
import sys
from pathlib import Path

from reproduction.cells import Place, prepare
from reproduction.ledger import Ledger
from reproduction.plan import StudyError, read_study
from reproduction.report import update_document, write_report
from reproduction.schedule import run_study

from pretraining.datasets import DataError
from pretraining.runs import InterruptedRun, RunError

STUDIES = Path(__file__).parent / "studies"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        path = given.study if given.study.suffix == ".toml" else STUDIES / f"{given.study}.toml"
        study = read_study(path)
        folder = given.folder or Path("runs") / "studies" / study.name
        ledger = Ledger(given.results or folder / "results.jsonl")
        place = Place(folder, given.data_root, given.download, given.device, given.threads)
        if not given.report:
            prepare(given.threads)
            run_study(study, ledger, place, given.workers)
        print(write_report(study, ledger, place))
        if given.document:
            update_document(given.document, study, ledger)
    except (InterruptedRun, KeyboardInterrupt):
        print("Stopped. The same command goes on.", file=sys.stderr)
        return 128 + signal.SIGINT
    except (DataError, RunError, StudyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare pretraining methods over many seeds, tuned alike.")
    parser.add_argument(
        "study", type=Path, help="a name in examples/studies (small, quick, stl10, coco), or a TOML file"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    parser.add_argument(
        "--document", type=Path, help="a Markdown file whose tables of this study are made anew"
    )
    parser.add_argument("--results", type=Path, help="the JSON lines (default: results.jsonl in the folder)")
    parser.add_argument("--folder", type=Path, help="for runs and the report (default: runs/studies/STUDY)")
    parser.add_argument("--data-root", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--download", action="store_true", help="download a data set that is missing")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ... (default: auto)")
    parser.add_argument(
        "--workers", type=int, default=2, help="runs at a time; 0 is one, in this process (default: 2)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each run on the CPU (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
