"""What may be passed to the public functions, and the messages when something else is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, TypedDict

from rankloss._framework import Array, Framework

Reduction = Literal["mean", "sum", "none"]


class QueryOptions(TypedDict, total=False):
    """Keyword arguments that say how the losses of queries become one."""

    weights: Array | None
    reduction: Reduction


class ScoreOptions(QueryOptions, total=False):
    """Keyword arguments of the functions of scores."""

    valid: Array | None


class EmbeddingOptions(QueryOptions, total=False):
    """Keyword arguments of the functions of embeddings."""

    gallery: Array | None
    gallery_labels: Array | None
    relevant: Array | None
    normalize: bool
    include_query: bool
    block_size: int | None


_SCORE_OPTIONS = ScoreOptions.__optional_keys__
_EMBEDDING_OPTIONS = EmbeddingOptions.__optional_keys__


@dataclass(frozen=True)
class EmbeddingBatch:
    """Checked arguments of an embedding function: nothing in it contradicts anything else."""

    embeddings: Array
    labels: Array | None
    gallery: Array | None = None
    gallery_labels: Array | None = None
    relevant: Array | None = None
    weights: Array | None = None
    normalize: bool = True
    include_query: bool = False
    reduction: Reduction = "mean"
    block_size: int | None = None

    @property
    def query_shape(self) -> tuple[int, ...]:
        """The shape of the losses: [n], or [images, views]."""
        return tuple(self.embeddings.shape[:-1])


@dataclass(frozen=True)
class ScoreBatch:
    """Checked arguments of a score function."""

    scores: Array
    relevant: Array
    valid: Array | None = None
    weights: Array | None = None
    reduction: Reduction = "mean"


# -- options of objectives


TEMPERATURES = 1e-30, 1e30
"""The least and the highest. Below 3e-39 the inverse is beyond float32, and scores over the temperature need room."""


def check_temperature(temperature: Any) -> float:
    """The temperature as a plain number; raise unless it is one within `TEMPERATURES`."""
    if isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"temperature must be a number, found {temperature!r} of type {_type(temperature)}")
    least, highest = TEMPERATURES
    if not least <= float(temperature) <= highest:  # or NaN
        raise ValueError(f"temperature must be from {least:g} to {highest:g}, found {temperature!r}")
    return float(temperature)


def check_count(name: str, count: Any) -> int:
    """The count as a plain integer; raise unless it is one, of Python or NumPy, and at least 1."""
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise TypeError(f"{name} must be an integer, found {count!r} of type {_type(count)}")
    if count < 1:
        raise ValueError(f"{name} must be at least 1, found {count!r}")
    return int(count)


def check_flag(name: str, flag: Any) -> None:
    """Raise TypeError unless this is True or False."""
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must be True or False, found {flag!r}")


# -- batches


def check_settings(normalize: Any, include_query: Any, reduction: Any, block_size: Any) -> None:
    """Raise unless these are settings of an embedding function."""
    check_flag("normalize", normalize)
    check_flag("include_query", include_query)
    _check_reduction(reduction)
    if block_size is not None:
        check_count("block_size", block_size)


def _check_reduction(reduction: Any) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', found {reduction!r}")


def check_options(function: str, options: Mapping[str, Any], names: frozenset[str]) -> None:
    """Raise TypeError on an option that the function does not have."""
    for name in options:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}" if close else f"known are {', '.join(sorted(names))}"
            raise TypeError(f"{function}() got an unexpected option {name!r}: {hint}")


def check_embedding_batch(
    framework: Framework,
    function: str,
    embeddings: Any,
    labels: Any,
    options: EmbeddingOptions,
    num_blocks: int = 1,
) -> EmbeddingBatch:
    """The arguments of an embedding function as a batch; TypeError or ValueError if they are not one."""
    check_options(function, options, _EMBEDDING_OPTIONS)
    batch = EmbeddingBatch(_stacked_views(framework, embeddings), labels, **options)
    _check_embeddings(framework, batch)
    _check_relation(framework, batch)
    check_settings(batch.normalize, batch.include_query, batch.reduction, batch.block_size)
    if batch.include_query and batch.gallery is not None:
        raise ValueError("include_query=True needs the batch to be its own gallery: leave gallery out")
    _check_num_blocks(batch, num_blocks)
    weights = _checked_weights(framework, batch.weights, batch.query_shape, batch.embeddings.dtype)
    return replace(batch, weights=weights)


def check_score_batch(
    framework: Framework, function: str, scores: Any, relevant: Any, options: ScoreOptions
) -> ScoreBatch:
    """The arguments of a score function as a batch; TypeError or ValueError if they are not one."""
    check_options(function, options, _SCORE_OPTIONS)
    batch = ScoreBatch(scores, relevant, **options)
    _check_array(framework, "scores", scores, "real floating", (None, None), "[queries, items]")
    shape = tuple(scores.shape)
    _check_array(framework, "relevant", relevant, "bool", shape, "the shape of scores")
    if batch.valid is not None:
        _check_array(framework, "valid", batch.valid, "bool", shape, "the shape of scores")
    _check_reduction(batch.reduction)
    weights = _checked_weights(framework, batch.weights, shape[:1], batch.scores.dtype)
    return replace(batch, weights=weights)


def _stacked_views(framework: Framework, embeddings: Any) -> Any:
    if not isinstance(embeddings, tuple | list):
        return embeddings
    if not embeddings:
        raise ValueError("embeddings must have at least one view, found an empty tuple")
    for number, view in enumerate(embeddings):
        _check_array(framework, f"embeddings[{number}]", view, "real floating", (None, None), "[images, d]")
        differ = any(a != b for a, b in zip(view.shape, embeddings[0].shape, strict=True))
        if differ or view.dtype != embeddings[0].dtype:
            raise ValueError(
                "embeddings given as a tuple of views must have one shape and dtype, found "
                f"{_describe(embeddings[0])} for view 0 and {_describe(view)} for view {number}"
            )
    return framework.xp.stack(tuple(embeddings), axis=1)


def _check_embeddings(framework: Framework, batch: EmbeddingBatch) -> None:
    x = batch.embeddings
    _check_array(framework, "embeddings", x, "real floating", None, "[n, d] or [images, views, d]")
    if len(x.shape) not in (2, 3):
        raise ValueError(f"embeddings must be [n, d] or [images, views, d], found shape {_shape(x)}")
    if x.shape[-1] == 0:
        raise ValueError(f"embeddings must have at least one dimension d, found shape {_shape(x)}")
    if batch.gallery is None:
        return
    if len(x.shape) == 3:
        raise ValueError(
            f"embeddings [images, views, d] are their own gallery, found shape {_shape(x)} with a gallery: "
            "reshape them to [n, d] and give labels"
        )
    _check_array(
        framework, "gallery", batch.gallery, "real floating", (None, x.shape[-1]), "[g, d] like embeddings"
    )
    if batch.gallery.dtype != x.dtype:
        raise TypeError(f"gallery must have the dtype of embeddings, {x.dtype}, found {batch.gallery.dtype}")


def _check_relation(framework: Framework, batch: EmbeddingBatch) -> None:
    n = batch.embeddings.shape[0]
    if batch.relevant is not None:
        if batch.labels is not None or batch.gallery_labels is not None:
            raise ValueError(
                "relevant says which items are positives: give it without labels and gallery_labels"
            )
        if batch.gallery is None:
            raise ValueError("relevant needs a gallery: its columns are the gallery's rows")
        wanted = (n, batch.gallery.shape[0])
        _check_array(framework, "relevant", batch.relevant, "bool", wanted, "[queries, gallery]")
    elif len(batch.embeddings.shape) == 3:
        if batch.labels is not None:
            raise ValueError(
                "labels go with embeddings [n, d]; views of shape "
                f"{_shape(batch.embeddings)} are the positives of their image: leave labels out or flatten the views"
            )
    elif batch.labels is None:
        raise ValueError(
            f"labels are needed with embeddings [n, d], found none for shape {_shape(batch.embeddings)}; "
            "views of images go without, as [images, views, d]"
        )
    else:
        _check_array(framework, "labels", batch.labels, "integral", (n,), "[n], one a row of embeddings")
    if batch.gallery is None and batch.gallery_labels is not None:
        raise ValueError("gallery_labels need a gallery, found none")
    if batch.gallery is not None and batch.relevant is None:
        if batch.gallery_labels is None:
            raise ValueError("gallery needs gallery_labels (with labels) or a relevant mask, found neither")
        shape = (batch.gallery.shape[0],)
        _check_array(
            framework, "gallery_labels", batch.gallery_labels, "integral", shape, "[g], one a gallery row"
        )


def _check_num_blocks(batch: EmbeddingBatch, num_blocks: int) -> None:
    if num_blocks == 1:
        return
    if batch.gallery is not None:
        raise ValueError("Blockwise cuts the batch, which must be its own gallery: leave gallery out")
    size = batch.embeddings.shape[0]
    if isinstance(size, int) and size % num_blocks:
        what = "images" if len(batch.embeddings.shape) == 3 else "rows"
        raise ValueError(f"num_blocks must divide the batch, found {num_blocks} blocks for {size} {what}")


def _checked_weights(
    framework: Framework, weights: Any, shape: tuple[int, ...], of_scores: Any
) -> Array | None:
    """Weights [queries] that are finite and not negative; where that can't be known yet, NaN in place of others."""
    if weights is None:
        return None
    xp = framework.xp
    _check_array(framework, "weights", weights, ("real floating", "integral"), shape, "one weight a query")
    if not _is(framework, weights, "real floating"):
        weights = xp.astype(weights, framework.compute_dtype(of_scores))
    usable = (weights >= 0) & (weights < float("inf"))
    if framework.known(usable) is None:
        return xp.where(usable, weights, float("nan"))
    if not bool(xp.all(usable)):
        wrong = xp.reshape(weights, (-1,))[xp.argmax(xp.astype(~xp.reshape(usable, (-1,)), xp.int32))]
        raise ValueError(f"weights must be finite and not negative, found {float(wrong)}")
    return weights


# -- arrays


def _check_array(
    framework: Framework,
    name: str,
    array: Any,
    kind: str | tuple[str, ...],
    shape: tuple[int | None, ...] | None,
    meaning: str,
) -> None:
    """Raise unless `array` is one of the framework, of a dtype of `kind`, and of `shape` (None: any length)."""
    words = {"real floating": "floating-point", "integral": "integer", "bool": "boolean"}
    if not framework.is_array(array):
        raise TypeError(f"{name} must be an array of {framework.name}, found {_type(array)}")
    if not _is(framework, array, kind):
        kinds = (kind,) if isinstance(kind, str) else kind
        raise TypeError(f"{name} must be {' or '.join(words[k] for k in kinds)}, found dtype {array.dtype}")
    found = tuple(array.shape)
    if shape is not None and (
        len(found) != len(shape) or any(b is not None and a != b for a, b in zip(found, shape, strict=True))
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape [{wanted}] ({meaning}), found shape {_shape(array)}")


def _is(framework: Framework, array: Array, kind: str | tuple[str, ...]) -> bool:
    return bool(framework.xp.isdtype(array.dtype, kind))


def _shape(array: Array) -> str:
    return "[" + ", ".join(str(length) for length in array.shape) + "]"


def _describe(array: Array) -> str:
    return f"{_shape(array)} {array.dtype}"


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
