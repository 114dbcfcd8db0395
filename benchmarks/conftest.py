"""Options of `pytest benchmarks`: where results go, and how long to measure."""

from pathlib import Path

import machine
import pytest

machine.confine()


def pytest_addoption(parser: pytest.Parser) -> None:
    import results

    parser.addoption("--results", type=Path, default=results.NEW, help="the folder for results as JSON")
    parser.addoption("--resume", action="store_true", help="leave out what is there already")
    parser.addoption("--seconds", type=float, default=3.0, help="how long to measure each case, about")
