"""Generated batches with every combination of options, for the tests that hold whatever comes in.

Sizes, options and a seed are drawn by hypothesis; the embeddings come from the seed, so that ties and
histogram nodes, where a finite or complex step means nothing, have probability zero (test_edge_cases.py has
them). The first query of a case always has a positive and a weight.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rankloss import Blockwise, FastAP, SmoothAP, SupCon

OBJECTIVES = (
    SmoothAP(temperature=0.01),
    SmoothAP(temperature=0.3),
    FastAP(num_bins=10),
    SupCon(temperature=0.1),
)


@dataclass(frozen=True)
class Case:
    """One call of `embedding_loss`: everything but the array namespace."""

    objective: Any
    embeddings: Any
    labels: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (self.embeddings,) if self.labels is None else (self.embeddings, self.labels)

    def with_options(self, **options: Any) -> "Case":
        return replace(self, options=self.options | options)

    def without(self, *names: str) -> "Case":
        return replace(
            self, options={name: value for name, value in self.options.items() if name not in names}
        )


def objectives(least_temperature: float = 0.001) -> st.SearchStrategy[Any]:
    temperatures = st.sampled_from([t for t in (0.001, 0.01, 0.05, 0.1, 0.5, 1.0) if t >= least_temperature])
    return st.one_of(
        st.builds(SmoothAP, temperature=temperatures),
        st.builds(FastAP, num_bins=st.sampled_from([1, 2, 3, 10, 25])),
        st.builds(SupCon, temperature=temperatures),
    )


def random_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Weights of which some are 0, but not the first."""
    weights = rng.uniform(0.2, 2.0, size=shape) * (rng.uniform(size=shape) < 0.8)
    weights[(0,) * len(shape)] = 1.3
    return weights


def random_labels(rng: np.random.Generator, count: int) -> Any:
    """Shuffled labels of unequal classes, singletons among them, where the first item is no singleton."""
    labels = rng.integers(0, rng.integers(1, max(2, count)), size=count) * 7 - 3
    labels[rng.integers(1, count)] = labels[0]
    return labels


def gallery_options(rng: np.random.Generator, labels: Any, items: int) -> dict[str, Any]:
    """A gallery with some labels that no query has, and without some that one has."""
    gallery_labels = rng.integers(0, 5, size=items)
    gallery_labels[-1] = labels[0]
    return {"gallery_labels": gallery_labels}


def relevant_options(rng: np.random.Generator, count: int, items: int) -> dict[str, Any]:
    """Any relation of queries and items, in which the first two belong together."""
    relevant = rng.uniform(size=(count, items)) < 0.4
    relevant[0, 0] = True
    return {"relevant": relevant}


def numbers_of_blocks(count: int, partner: int) -> list[int]:
    """Into how many equal blocks `count` can be cut, the first item and its partner staying together."""
    return [blocks for blocks in range(1, count + 1) if count % blocks == 0 and partner < count // blocks]


@st.composite
def embedding_cases(draw: Any, least_temperature: float = 0.001, blockwise: bool = True) -> Case:
    """Any layout of a batch, with any options."""
    layout = draw(st.sampled_from(["labels", "views", "tuple of views", "gallery", "relevant"]))
    objective = draw(objectives(least_temperature))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimensions, count = draw(st.integers(1, 6)), draw(st.integers(2, 11))
    shape = (draw(st.integers(1, 5)), draw(st.integers(2, 4))) if "views" in layout else (count,)
    options: dict[str, Any] = {
        "normalize": draw(st.booleans()),
        "block_size": draw(st.sampled_from([None, 1, 2, 3, 5, 100])),
        "reduction": draw(st.sampled_from(["mean", "sum"])),
    }
    embeddings: Any = rng.normal(size=(*shape, dimensions))
    labels: Any = None
    if layout in ("gallery", "relevant"):
        items = draw(st.integers(1, 9))
        options["gallery"] = rng.normal(size=(items, dimensions))
        if layout == "gallery":
            labels = rng.integers(0, 4, size=shape)
            options |= gallery_options(rng, labels, items)
        else:
            options |= relevant_options(rng, count, items)
    else:
        options["include_query"] = draw(st.booleans())
        labels = random_labels(rng, count) if layout == "labels" else None
        partner = 0 if labels is None else int(np.flatnonzero(labels == labels[0])[1])
        number = draw(st.sampled_from(numbers_of_blocks(shape[0], partner))) if blockwise else 1
        objective = Blockwise(objective, number) if number > 1 else objective
    if draw(st.booleans()):
        options["weights"] = random_weights(rng, shape)
    if layout == "tuple of views":
        embeddings = tuple(embeddings[:, view] for view in range(shape[1]))
    return Case(objective, embeddings, labels, options)


@dataclass(frozen=True)
class ScoreCase:
    """One call of `score_loss`."""

    objective: Any
    scores: Any
    relevant: Any
    options: dict[str, Any]


@st.composite
def score_cases(draw: Any, least_temperature: float = 0.001) -> ScoreCase:
    """Scores between -1 and 1 and beyond, with masks and weights or without."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, items = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    scores = rng.uniform(-1, 1, size=(queries, items)) * draw(st.sampled_from([0.1, 1.0, 3.0]))
    relevant = rng.uniform(size=scores.shape) < draw(st.sampled_from([0.2, 0.5, 0.9]))
    relevant[0, 0] = True
    options: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum"]))}
    if draw(st.booleans()):
        options["valid"] = rng.uniform(size=scores.shape) < 0.7
        options["valid"][0, 0] = True
    if draw(st.booleans()):
        options["weights"] = random_weights(rng, (queries,))
    return ScoreCase(draw(objectives(least_temperature)), scores, relevant, options)


def stacked(gradient: Any) -> Any:
    """The gradient of a tuple of views, whichever way it comes, as [images, views, d]."""
    return np.stack(gradient, axis=1) if isinstance(gradient, tuple) else gradient
