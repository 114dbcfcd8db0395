"""Error of Smooth-AP in float32 against float64, over the temperature and the spread of the scores.

python benchmarks/accuracy.py [--results FOLDER]    # some seconds

Both get the same scores, which float32 holds exactly, so that the error is that of the computation alone: the ratio
of exponentials that stands for the logistic function, its fallback where a query's positives are further apart than
exponentials reach, and the form for many positives.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import machine

machine.confine()

import numpy as np  # noqa: E402
from results import NEW, Results  # noqa: E402

import rankloss  # noqa: E402

TEMPERATURES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SPREADS = (0.01, 0.1, 0.5, 1.0, 2.0)
POSITIVES = (8, 256)
QUERIES, ITEMS = 32, 1024


def errors(temperature: float, spread: float, positives: int) -> tuple[float, float]:
    """Largest error of a query's loss, and of the gradient in its largest entries, of scores in ± spread/2."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-spread / 2, spread / 2, size=(QUERIES, ITEMS)).astype(np.float32)
    relevant = np.broadcast_to(np.arange(ITEMS) < positives, scores.shape)
    objective = rankloss.SmoothAP(temperature)
    found, exact = (
        (
            rankloss.score_loss(objective, array, relevant, reduction="none"),
            rankloss.score_loss_and_gradient(objective, array, relevant)[1],
        )
        for array in (scores, scores.astype(np.float64))
    )
    of_losses, of_gradient = (np.abs(a - b).max() for a, b in zip(found, exact, strict=True))
    return float(of_losses), float(of_gradient / np.abs(exact[1]).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=NEW)
    saved = Results(parser.parse_args().results / "accuracy.json", "python benchmarks/accuracy.py")
    warnings.simplefilter("error")  # NumPy's, of overflow and of NaN
    for positives in POSITIVES:
        for spread in SPREADS:
            for temperature in TEMPERATURES:
                of_loss, of_gradient = errors(temperature, spread, positives)
                saved.add(
                    {
                        "temperature": temperature,
                        "spread": spread,
                        "positives": positives,
                        "loss_error": float(f"{of_loss:.2e}"),
                        "gradient_error": float(f"{of_gradient:.2e}"),
                    }
                )


if __name__ == "__main__":
    main()
