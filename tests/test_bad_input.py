"""Bad input is refused in words: the argument's name, what came, what is needed."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from faces import CoreFace, Face

from rankloss import Blockwise, SmoothAP

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
Y = np.array([0, 1, 2, 0, 1, 2])
VIEWS = RNG.normal(size=(3, 2, 4))
GALLERY = RNG.normal(size=(9, 4))
GALLERY_LABELS = RNG.integers(0, 3, size=9)
MASK = RNG.uniform(size=(6, 9)) < 0.5
SCORES = RNG.normal(size=(6, 9))
SMOOTH_AP = SmoothAP()


@dataclass(frozen=True)
class Bad:
    """A call that must fail, and words (regular expressions) that its message must have, in any order."""

    name: str
    words: tuple[str, ...]
    arguments: tuple[Any, ...] = (X, Y)
    options: dict[str, Any] = field(default_factory=dict)
    error: type[Exception] | tuple[type[Exception], ...] = ValueError
    objective: Any = SMOOTH_AP


def with_gallery(**options: Any) -> dict[str, Any]:
    return {"gallery": GALLERY, "gallery_labels": GALLERY_LABELS} | options


SHAPES = [
    Bad("one-dimensional embeddings", ("embeddings", r"\b6\b"), (X[:, 0], Y)),
    Bad("a single number", ("embeddings", r"\(\)|\[\]"), (np.array(1.0), Y)),
    Bad("four-dimensional embeddings", ("embeddings", r"3, 2, 4, 1"), (VIEWS[..., None],)),
    Bad("no dimensions", ("embeddings", r"6, 0"), (X[:, :0], Y)),
    Bad("views without dimensions", ("embeddings", r"3, 2, 0"), (VIEWS[..., :0],)),
    Bad("fewer labels than rows", ("labels", r"\b5\b", r"\b6\b"), (X, Y[:5])),
    Bad("more labels than rows", ("labels", r"\b7\b", r"\b6\b"), (X, np.append(Y, 0))),
    Bad("labels in a column", ("labels", r"6, 1"), (X, Y[:, None])),
    Bad("one label", ("labels", r"\(\)|\[\]"), (X, np.array(3))),
    Bad("weights of another length", ("weights", r"\b5\b", r"\b6\b"), options={"weights": np.ones(5)}),
    Bad("weights in a column", ("weights", r"6, 1"), options={"weights": np.ones((6, 1))}),
    Bad("flat weights of views", ("weights", r"\b6\b", r"3, 2"), (VIEWS,), {"weights": np.ones(6)}),
    Bad("views of unequal shapes", ("embeddings|views", r"3, 4", r"2, 4"), ((X[:3], X[:2]),)),
    Bad("stacked arrays as views", ("embeddings|views", r"3, 2, 4"), ((VIEWS, VIEWS),)),
    Bad("no view at all", ("embeddings|views",), ((),), error=(ValueError, TypeError)),
    Bad(
        "a gallery of other dimensions",
        ("gallery", r"\b3\b", r"\b4\b"),
        options=with_gallery(gallery=GALLERY[:, :3]),
    ),
    Bad("a flat gallery", ("gallery", r"\b9\b"), options=with_gallery(gallery=GALLERY[:, 0])),
    Bad(
        "fewer gallery labels",
        ("gallery_labels", r"\b8\b", r"\b9\b"),
        options=with_gallery(gallery_labels=GALLERY_LABELS[:8]),
    ),
    Bad(
        "relevant of another shape",
        ("relevant", r"9, 6", r"6, 9"),
        (X,),
        {"gallery": GALLERY, "relevant": MASK.T},
    ),
    Bad(
        "relevant of one query",
        ("relevant", r"\(9,\)|\[9\]"),
        (X,),
        {"gallery": GALLERY, "relevant": MASK[0]},
    ),
]

COMBINATIONS = [
    Bad("labels with views", ("labels",), (VIEWS, np.array([0, 1, 2]))),
    Bad("labels with a tuple of views", ("labels",), ((X, X), Y)),
    Bad("no labels for rows", ("labels",), (X,)),
    Bad("a gallery with views", ("gallery",), (VIEWS,), with_gallery()),
    Bad("a gallery without its labels", ("gallery_labels",), options={"gallery": GALLERY}),
    Bad("gallery labels without a gallery", ("gallery",), options={"gallery_labels": GALLERY_LABELS}),
    Bad("gallery labels without labels", ("labels",), (X,), with_gallery()),
    Bad("relevant with labels", ("relevant", "labels"), options={"gallery": GALLERY, "relevant": MASK}),
    Bad("relevant without a gallery", ("relevant", "gallery"), (X,), {"relevant": MASK}),
    Bad("relevant and gallery_labels", ("relevant", "gallery_labels"), (X,), with_gallery(relevant=MASK)),
    Bad(
        "relevant and include_query",
        ("include_query",),
        (X,),
        {"gallery": GALLERY, "relevant": MASK, "include_query": True},
    ),
    Bad(
        "include_query with a gallery", ("include_query", "gallery"), options=with_gallery(include_query=True)
    ),
    Bad(
        "Blockwise that does not divide",
        ("num_blocks", r"\b4\b", r"\b6\b"),
        objective=Blockwise(SmoothAP(), 4),
    ),
    Bad(
        "Blockwise with a gallery",
        ("Blockwise", "gallery"),
        options=with_gallery(),
        objective=Blockwise(SmoothAP(), 2),
    ),
]

ANY = (ValueError, TypeError)
KINDS = [
    Bad("whole-number embeddings", ("embeddings", "int64"), (np.arange(24).reshape(6, 4), Y), error=ANY),
    Bad("boolean embeddings", ("embeddings", "bool"), (X > 0, Y), error=ANY),
    Bad("complex embeddings", ("embeddings", "complex128"), (X + 1j, Y), error=ANY),
    Bad("boolean labels", ("labels", "bool"), (X, Y > 0), error=ANY),
    Bad("float labels", ("labels", "float64"), (X, Y.astype(float)), error=ANY),
    Bad(
        "float gallery labels",
        ("gallery_labels", "float32"),
        options=with_gallery(gallery_labels=GALLERY_LABELS.astype("float32")),
        error=ANY,
    ),
    Bad(
        "a gallery of another dtype",
        ("gallery", "float32", "float64"),
        options=with_gallery(gallery=GALLERY.astype("float32")),
        error=ANY,
    ),
    Bad(
        "views of two dtypes",
        ("embeddings|views", "float32", "float64"),
        ((X, X.astype("float32")),),
        error=ANY,
    ),
    Bad(
        "whole-number relevant",
        ("relevant", "int64"),
        (X,),
        {"gallery": GALLERY, "relevant": MASK.astype("int64")},
        error=ANY,
    ),
    Bad("complex weights", ("weights", "complex128"), options={"weights": np.ones(6) + 1j}, error=ANY),
    Bad("boolean weights", ("weights", "bool"), options={"weights": np.ones(6) > 0}, error=ANY),
    Bad("a list of lists", ("embeddings", "list"), (X.tolist(), Y), error=ANY),
    Bad("no embeddings", ("embeddings", "None"), (None, Y), error=ANY),
    Bad("a list of labels", ("labels", "list"), (X, Y.tolist()), error=ANY),
    Bad("a number as weights", ("weights", "float|2.0"), options={"weights": 2.0}, error=ANY),
    Bad("normalize as a word", ("normalize", "no|str"), options={"normalize": "no"}, error=ANY),
    Bad("include_query as a number", ("include_query", "2|int"), options={"include_query": 2}, error=ANY),
]

RANGES = [
    Bad("an unknown reduction", ("reduction", "avg", "mean", "sum", "none"), options={"reduction": "avg"}),
    Bad("no reduction", ("reduction", "None"), options={"reduction": None}, error=ANY),
    Bad("blocks of no rows", ("block_size", r"\b0\b"), options={"block_size": 0}),
    Bad("blocks of -1 rows", ("block_size", "-1"), options={"block_size": -1}),
    Bad("blocks of half a row", ("block_size", "2.5"), options={"block_size": 2.5}, error=ANY),
    Bad("a boolean block_size", ("block_size", "True|bool"), options={"block_size": True}, error=ANY),
    Bad(
        "a negative weight",
        ("weights", "-1|negative|>= 0|≥ 0"),
        options={"weights": np.array([1, 1, -1.0, 1, 1, 1])},
    ),
    Bad(
        "a NaN weight", ("weights", "(?i)nan|finite"), options={"weights": np.array([1, 1, np.nan, 1, 1, 1])}
    ),
    Bad(
        "an infinite weight",
        ("weights", "inf|finite"),
        options={"weights": np.array([1, 1, np.inf, 1, 1, 1])},
    ),
    Bad("a misspelt option", ("normalise",), options={"normalise": True}, error=TypeError),
    Bad("an option of scores", ("valid",), options={"valid": MASK}, error=TypeError),
]

OF_SCORES = [
    Bad("flat scores", ("scores", r"\(9,\)|\[9\]"), (SCORES[0], MASK[0])),
    Bad("scores of three axes", ("scores", r"6, 9, 1"), (SCORES[..., None], MASK[..., None])),
    Bad("relevant of fewer items", ("relevant", r"6, 8", r"6, 9"), (SCORES, MASK[:, :8])),
    Bad("valid of fewer items", ("valid", r"6, 8", r"6, 9"), (SCORES, MASK), {"valid": MASK[:, :8]}),
    Bad("weights of scores", ("weights", r"\b9\b", r"\b6\b"), (SCORES, MASK), {"weights": np.ones(9)}),
    Bad("weights for each item", ("weights", r"6, 9"), (SCORES, MASK), {"weights": np.ones((6, 9))}),
    Bad("whole-number scores", ("scores", "int64"), (MASK.astype("int64"), MASK), error=ANY),
    Bad("whole-number relevance", ("relevant", "int64"), (SCORES, MASK.astype("int64")), error=ANY),
    Bad("float relevance", ("relevant", "float64"), (SCORES, MASK.astype("float64")), error=ANY),
    Bad("whole-number valid", ("valid", "int8"), (SCORES, MASK), {"valid": MASK.astype("int8")}, error=ANY),
    Bad("no relevance", ("relevant",), (SCORES,), error=TypeError),
    Bad("an option of embeddings", ("normalize",), (SCORES, MASK), {"normalize": True}, error=TypeError),
    Bad("a block_size of scores", ("block_size",), (SCORES, MASK), {"block_size": 4}, error=TypeError),
    Bad("a reduction of scores", ("reduction", "avg"), (SCORES, MASK), {"reduction": "avg"}),
    Bad("a negative weight of scores", ("weights",), (SCORES, MASK), {"weights": -np.ones(6)}),
]


@pytest.mark.parametrize("bad", SHAPES + COMBINATIONS + KINDS + RANGES, ids=lambda bad: bad.name)
def test_embedding_loss_refuses(face: Face, bad: Bad) -> None:
    refuse(face, bad, "embedding_loss")


@pytest.mark.parametrize("bad", OF_SCORES, ids=lambda bad: bad.name)
def test_score_loss_refuses(face: Face, bad: Bad) -> None:
    refuse(face, bad, "score_loss")


BAD_VALUES = ("a negative weight", "a NaN weight", "an infinite weight", "a negative weight of scores")


def refuse(face: Face, bad: Bad, function: str) -> None:
    if face.traced and bad.name in BAD_VALUES:
        # Values that are not known yet are refused by what comes out.
        assert np.isnan(face.value(function, bad.objective, *bad.arguments, **bad.options))
        return
    with pytest.raises(bad.error) as caught:
        face.value(function, bad.objective, *bad.arguments, **bad.options)
    for word in bad.words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in {caught.value!r}"


@pytest.mark.parametrize("function", ["embedding_loss", "score_loss"])
def test_options_go_by_name(face: Face, function: str) -> None:
    arguments = (X, Y) if function == "embedding_loss" else (SCORES, MASK)
    with pytest.raises(TypeError, match="positional"):
        face.value(function, SmoothAP(), *arguments, arguments[1])


@pytest.mark.parametrize("function", ["embedding_loss", "score_loss"])
def test_a_gradient_is_of_one_number(face: Face, function: str) -> None:
    if not isinstance(face, CoreFace):
        pytest.skip("autograd differentiates each query's loss by the gradient that comes in")
    arguments = (X, Y) if function == "embedding_loss" else (SCORES, MASK)
    with pytest.raises(ValueError, match=r"reduction.*none|none.*reduction"):
        face.value_and_gradient(function, SmoothAP(), *arguments, reduction="none")


def test_functions_with_gradients_refuse_the_same(face: Face) -> None:
    for bad in SHAPES + COMBINATIONS + RANGES:
        if isinstance(bad.arguments[0], np.ndarray) and not (face.traced and bad.name in BAD_VALUES):
            with pytest.raises(bad.error):
                face.value_and_gradient("embedding_loss", bad.objective, *bad.arguments, **bad.options)


def test_metrics_refuse_the_same(face: Face) -> None:
    from rankloss import AveragePrecision

    functions = {"embedding_metric": SHAPES + KINDS + RANGES, "score_metric": OF_SCORES}
    for function, calls in functions.items():
        for bad in calls:
            if not (face.traced and bad.name in BAD_VALUES):
                with pytest.raises(bad.error):
                    face.value(function, AveragePrecision(), *bad.arguments, **bad.options)
