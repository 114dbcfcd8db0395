"""The losses and metrics once more, in plain loops from the papers: what the library is tested against.

Nothing here is shared with the library. Everything is float64, one query at a time, one formula a function.
Inputs may be complex: the formulas are analytic (piecewise, for FastAP), so that `gradient` differentiates by
the complex step, to machine precision.
"""

import cmath
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Query(NamedTuple):
    """What one query sees: all its scores, the items it may rank, and those of them that are relevant."""

    scores: list[Any]
    candidates: list[int]
    positives: list[int]


def exp(z: Any) -> Any:
    return cmath.exp(z) if isinstance(z, complex) else math.exp(z)


def log(z: Any) -> Any:
    return cmath.log(z) if isinstance(z, complex) else math.log(z)


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z)), with no exponential of a large positive number."""
    return 1 / (1 + exp(-z)) if z.real >= 0 else exp(z) / (1 + exp(z))


def smooth_ap(query: Query, temperature: float) -> Any:
    """Brown et al. 2020, equation 6; the query itself takes part only if it is among the candidates."""
    total = 0.0
    for i in query.positives:
        rank_among_all, rank_among_positives = 1.0, 1.0
        for j in query.candidates:
            if j != i:
                above = sigmoid((query.scores[j] - query.scores[i]) / temperature)
                rank_among_all += above
                if j in query.positives:
                    rank_among_positives += above
        total += rank_among_positives / rank_among_all
    return 1 - total / len(query.positives)


def fast_ap(query: Query, num_bins: int) -> Any:
    """Cakir et al. 2019: soft histograms of the squared distances, then AP from their running sums."""
    width = 4 / num_bins
    histogram, positive_histogram = [0.0] * (num_bins + 1), [0.0] * (num_bins + 1)
    for j in query.candidates:
        distance = 2 - 2 * query.scores[j]
        if not 0 <= distance.real <= 4:
            distance = 0.0 if distance.real < 0 else 4.0
        for node in range(num_bins + 1):
            apart = distance - node * width
            weight = 1 - (apart if apart.real >= 0 else -apart) / width
            if weight.real > 0:
                histogram[node] += weight
                if j in query.positives:
                    positive_histogram[node] += weight
    total, running, positive_running = 0.0, 0.0, 0.0
    for node in range(num_bins + 1):
        running += histogram[node]
        positive_running += positive_histogram[node]
        if running.real > 0:
            total += positive_histogram[node] * positive_running / running
    return 1 - total / len(query.positives)


def sup_con(query: Query, temperature: float) -> Any:
    """Khosla et al. 2020, equation 2 (the mean over the positives stands outside the logarithm)."""
    logits = {j: query.scores[j] / temperature for j in query.candidates}
    highest = max(logit.real for logit in logits.values())
    log_sum = highest + log(sum(exp(logit - highest) for logit in logits.values()))
    return sum(log_sum - logits[i] for i in query.positives) / len(query.positives)


def rank(query: Query, item: int, among: list[int]) -> int:
    """How many of `among` score at least as much as `item`: ties count against it, and it counts itself."""
    return sum(query.scores[j] >= query.scores[item] for j in among)


def average_precision(query: Query) -> float:
    precisions = [rank(query, i, query.positives) / rank(query, i, query.candidates) for i in query.positives]
    return sum(precisions) / len(precisions)


def recall_at_k(query: Query, k: int) -> float:
    return float(any(rank(query, i, query.candidates) <= k for i in query.positives))


def r_precision(query: Query) -> float:
    r = len(query.positives)
    return sum(rank(query, i, query.candidates) <= r for i in query.positives) / r


def average_precision_at_r(query: Query) -> float:
    """Musgrave et al. 2020: precisions at the ranks up to R that hold a positive, divided by R."""
    r, total = len(query.positives), 0.0
    for i in query.positives:
        if rank(query, i, query.candidates) <= r:
            total += rank(query, i, query.positives) / rank(query, i, query.candidates)
    return total / r


def of_query(objective: Any, query: Query) -> Any:
    """The loss, or metric, of one query that has a positive."""
    match type(objective).__name__:
        case "SmoothAP":
            return smooth_ap(query, objective.temperature)
        case "FastAP":
            return fast_ap(query, objective.num_bins)
        case "SupCon":
            return sup_con(query, objective.temperature)
        case "AveragePrecision":
            return average_precision(query)
        case "RecallAtK":
            return recall_at_k(query, objective.k)
        case "RPrecision":
            return r_precision(query)
        case "AveragePrecisionAtR":
            return average_precision_at_r(query)
    raise NotImplementedError(objective)


def normalized(rows: Array) -> Array:
    """Rows of length one; a zero row stays zero, and is a constant."""
    result = np.zeros_like(rows)
    for a, row in enumerate(rows):
        largest = np.abs(row.real).max()
        if largest > 0:
            scaled = row / largest
            result[a] = scaled / np.sqrt(np.sum(scaled**2))
    return result


def reduced(losses: list[Any], weights: list[float], has_positive: list[bool], reduction: str) -> Any:
    """Sum, list or weighted mean over the queries that have a positive; 0 where nothing counts."""
    weighted = [
        weight * loss if has else 0.0 for loss, weight, has in zip(losses, weights, has_positive, strict=True)
    ]
    if reduction == "none":
        return np.asarray(weighted)
    total = sum(weighted)
    if reduction == "sum":
        return total
    divisor = sum(weight for weight, has in zip(weights, has_positive, strict=True) if has)
    return total / divisor if divisor > 0 else 0.0


def over_queries(objective: Any, queries: Iterator[Query], weights: Array | None, reduction: str) -> Any:
    losses, has_positive = [], []
    for query in queries:
        has_positive.append(bool(query.positives))
        losses.append(of_query(objective, query) if query.positives else 0.0)
    weight_list = [1.0] * len(losses) if weights is None else np.asarray(weights, np.float64).ravel().tolist()
    return reduced(losses, weight_list, has_positive, reduction)


def score(
    objective: Any,
    scores: Array,
    relevant: Array,
    *,
    valid: Array | None = None,
    weights: Array | None = None,
    reduction: str = "mean",
) -> Any:
    """`score_loss` of a loss, `score_metric` of a metric."""

    def queries() -> Iterator[Query]:
        for a in range(scores.shape[0]):
            candidates = [j for j in range(scores.shape[1]) if valid is None or valid[a, j]]
            yield Query(scores[a].tolist(), candidates, [j for j in candidates if relevant[a, j]])

    return over_queries(objective, queries(), weights, reduction)


def embedding(
    objective: Any,
    embeddings: Array | tuple[Array, ...],
    labels: Array | None = None,
    *,
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    relevant: Array | None = None,
    normalize: bool = True,
    include_query: bool = False,
    weights: Array | None = None,
    reduction: str = "mean",
    block_size: int | None = None,
) -> Any:
    """`embedding_loss` of a loss, `embedding_metric` of a metric; `block_size` must change nothing."""
    batch = np.stack(embeddings, axis=1) if isinstance(embeddings, tuple) else np.asarray(embeddings)
    batch = batch.astype(np.promote_types(batch.dtype, np.float64))
    shape = batch.shape[:-1]
    if batch.ndim == 3:
        labels = np.repeat(np.arange(shape[0]), shape[1])
    rows = batch.reshape(math.prod(shape), batch.shape[-1])
    items = (
        rows if gallery is None else np.asarray(gallery).astype(np.promote_types(gallery.dtype, np.float64))
    )
    if normalize:
        rows, items = normalized(rows), normalized(items)
    scores = rows @ items.T
    item_labels = labels if gallery is None else gallery_labels
    blocks = 1
    if type(objective).__name__ == "Blockwise":
        objective, blocks = objective.objective, objective.num_blocks
    block_length = max(1, len(items) // blocks)

    def queries() -> Iterator[Query]:
        for a in range(len(rows)):
            candidates = [
                j for j in range(len(items)) if blocks == 1 or j // block_length == a // block_length
            ]
            if gallery is None and not include_query:
                candidates.remove(a)
            if relevant is not None:
                positives = [j for j in candidates if relevant[a, j]]
            else:
                # Python integers compare exactly, whatever the two dtypes are.
                positives = [j for j in candidates if int(labels[a]) == int(item_labels[j])]
            yield Query(scores[a].tolist(), candidates, positives)

    result = over_queries(objective, queries(), weights, reduction)
    return result.reshape(shape) if reduction == "none" else result


def gradient(function: Callable[[Array], Any], array: Array) -> Array:
    """d function / d array by the complex step: no difference is taken, so nothing cancels."""
    step = 1e-100
    result = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        moved = array.astype(np.complex128)
        moved[index] += step * 1j
        result[index] = complex(function(moved)).imag / step
    return result


def central_difference(
    function: Callable[[Array], Any], array: Array, direction: Array, step: float
) -> float:
    """The derivative of `function` along `direction`, by the two-sided difference of fourth order."""
    near = float(function(array + step * direction)) - float(function(array - step * direction))
    far = float(function(array + 2 * step * direction)) - float(function(array - 2 * step * direction))
    return (8 * near - far) / (12 * step)
