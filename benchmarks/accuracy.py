"""Error of Smooth-AP in float32 against float64, over the temperature and the spread of the scores.

python benchmarks/accuracy.py [--results FOLDER]    # some seconds

Both get the same scores, which float32 holds exactly, so that the error is that of the computation alone, in PyTorch:
the ratio of exponentials that stands for the logistic function, its fallback where a query's positives are further
apart than exponentials reach, and the grid of the score axis from which 256 positives read their ranks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import machine

machine.confine()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from results import NEW, Results  # noqa: E402

import rankloss.torch as rl  # noqa: E402

TEMPERATURES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SPREADS = (0.01, 0.1, 0.5, 1.0, 2.0)
POSITIVES = (8, 256)
QUERIES, ITEMS = 32, 4096


def errors(temperature: float, spread: float, positives: int) -> tuple[float, float]:
    """Largest error of a query's loss, and of the gradient in its largest entries, of scores in ± spread/2."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-spread / 2, spread / 2, size=(QUERIES, ITEMS)).astype(np.float32)
    relevant = torch.arange(ITEMS).expand(scores.shape) < positives

    def losses_and_gradient(dtype: torch.dtype) -> list[np.ndarray]:
        leaf = torch.tensor(scores, dtype=dtype, requires_grad=True)
        losses = rl.score_loss(rl.SmoothAP(temperature), leaf, relevant, reduction="none")
        losses.sum().backward()
        assert leaf.grad is not None
        return [array.detach().double().numpy() for array in (losses, leaf.grad)]

    found, exact = losses_and_gradient(torch.float32), losses_and_gradient(torch.float64)
    of_losses, of_gradient = (np.abs(a - b).max() for a, b in zip(found, exact, strict=True))
    return float(of_losses), float(of_gradient / np.abs(exact[1]).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=NEW)
    saved = Results(parser.parse_args().results / "accuracy.json", "python benchmarks/accuracy.py")
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
