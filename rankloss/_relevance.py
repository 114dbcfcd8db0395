"""Which items a query ranks, and which of them are its positives.

Over the whole batch a `Relation` says it with a few numbers a query: the positives of a query are a slice of
a gallery sorted by label. For a block of queries it becomes a `Relevance`, which objectives read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from rankloss._framework import Array, Framework, Window


class Relevance(Protocol):
    """The candidates and positives of a block of queries [q, g]."""

    @property
    def count(self) -> Array:
        """[q] number of positives, in the scores' dtype."""

    @property
    def has_positive(self) -> Array:
        """[q] boolean."""

    @property
    def always(self) -> bool:
        """Whether every query is known to have a positive."""

    @property
    def turns(self) -> Array | int:
        """How many positives a query has at most; an array where it is known only at run time."""

    @property
    def window(self) -> Window:
        """The columns in which all positives of the block lie."""

    @property
    def positives(self) -> Array:
        """Boolean, [q, window.width]: the positives among the columns of the window."""

    def hide(self, array: Array, value: float) -> Array:
        """`value` in place of what belongs to an item that is no candidate. May overwrite `array` [q, g]."""

    def places(self, first: Array | int, width: int) -> tuple[Array, Array]:
        """Columns [q, width] of positives number first, first + 1, … and whether there is such a positive.

        They count from the start of the window. Where there is none the column is any valid one.
        """

    def narrowed(self) -> tuple[Array, Relevance] | None:
        """Whether the positives lie in a narrow window, known at run time only, and the relevance if they do.

        None where the window is as narrow as it gets.
        """


@dataclass(frozen=True)
class SliceRelevance:
    """Positives are the columns [first, last) less the query's own; all else but its own is a candidate."""

    framework: Framework
    width: int
    first: Array
    last: Array
    own: Array | None
    count: Array
    always: bool
    views: int | None
    span: int | None

    @cached_property
    def has_positive(self) -> Array:
        return self.count > 0

    @cached_property
    def turns(self) -> Array | int:
        if not isinstance(self.views, int):
            return self.framework.most(self.count)
        return self.views if self.own is None else self.views - 1

    @cached_property
    def window(self) -> Window:
        return self.framework.window(self.first, self.last, self.width, self.span)

    @cached_property
    def positives(self) -> Array:
        start, width = self.window
        columns = self.framework.arange(width, self.first)[None, :] + start
        inside = (columns >= self.first[:, None]) & (columns < self.last[:, None])
        return inside if self.own is None else inside & (columns != self.own[:, None])

    def hide(self, array: Array, value: float) -> Array:
        return array if self.own is None else self.framework.put(array, self.own, value)

    def places(self, first: Array | int, width: int) -> tuple[Array, Array]:
        xp = self.framework.xp
        columns = self.first[:, None] + self.framework.arange(width, self.first)[None, :] + first
        if self.own is not None:  # step over the query itself, which lies within its own slice
            columns = xp.where(columns >= self.own[:, None], columns + 1, columns)
        real = columns < self.last[:, None]
        return xp.where(real, columns - self.window.start, 0), real

    def narrowed(self) -> tuple[Array, Relevance] | None:
        xp, queries = self.framework.xp, self.first.shape[0]
        if self.framework.exact_windows or self.span is not None:
            return None
        span = 2 * queries  # enough while classes have up to half as many items
        if not isinstance(span, int) or not isinstance(self.width, int) or span >= self.width:
            return None
        some = self.last > self.first
        start = xp.min(xp.where(some, self.first, self.width))
        return xp.max(xp.where(some, self.last, 0)) - start <= span, replace(self, span=span)


@dataclass(frozen=True)
class MaskRelevance:
    """Positives and candidates by boolean masks [q, g]; `candidates` None: all are."""

    framework: Framework
    positives: Array
    candidates: Array | None
    count: Array

    always = False

    @cached_property
    def has_positive(self) -> Array:
        return self.count > 0

    @cached_property
    def turns(self) -> Array | int:
        return self.framework.most(self.count)

    @property
    def window(self) -> Window:
        return Window(0, self.positives.shape[1])

    def hide(self, array: Array, value: float) -> Array:
        return array if self.candidates is None else self.framework.xp.where(self.candidates, array, value)

    @cached_property
    def _running_count(self) -> Array:
        xp = self.framework.xp
        return xp.cumulative_sum(xp.astype(xp.reshape(self.positives, (-1,)), self.framework.index_dtype))

    def places(self, first: Array | int, width: int) -> tuple[Array, Array]:
        # The k-th positive of a row is where the running count over the flattened mask first reaches the
        # count before the row plus k + 1: one binary search, no sort.
        xp, framework = self.framework.xp, self.framework
        rows, columns = self.positives.shape
        number = framework.arange(width, self.positives)[None, :] + first
        totals = self._running_count[columns - 1 :: columns]
        count = xp.astype(self.count, totals.dtype)
        real = number < count[:, None]
        before = totals - count
        wanted = xp.reshape(before[:, None] + number + 1, (-1,))
        flat = xp.reshape(xp.searchsorted(self._running_count, wanted), (rows, width))
        return xp.where(real, flat - columns * framework.arange(rows, flat)[:, None], 0), real

    def narrowed(self) -> None:
        return None


@dataclass(frozen=True)
class Positives:
    """A part [q, m] of the columns of a block that holds each query's positives.

    Where it is known how many a query has at most, these alone, in order; else all columns of the window.
    """

    framework: Framework
    relevance: Relevance
    real: Array
    """Boolean, [q, m]: whether an entry is a positive."""
    columns: Array | None
    """[q, m], where each entry lies in the window; None: at its own place."""

    @classmethod
    def of(cls, framework: Framework, relevance: Relevance) -> Positives:
        """Those of a block. To be made outside of branches, which may be traced by themselves."""
        if not isinstance(relevance.turns, int):
            relevance.places(0, 1)  # what it keeps must not be made in one either
            return cls(framework, relevance, relevance.positives, None)
        columns, real = relevance.places(0, relevance.turns)
        return cls(framework, relevance, real, columns)

    def among(self, array: Array) -> Array:
        """The entries of an array [q, g], [q, m]."""
        window = self.framework.columns(array, self.relevance.window)
        return window if self.columns is None else self.framework.take_along(window, self.columns)

    def places(self, first: Array | int, width: int) -> tuple[Array, Array]:
        """As `Relevance.places`, within the part."""
        if self.columns is None:
            return self.relevance.places(first, width)
        xp = self.framework.xp
        number = xp.zeros_like(self.columns[:, :1]) + self.framework.arange(width, self.real)[None, :] + first
        real = number < xp.astype(self.relevance.count, number.dtype)[:, None]
        return xp.where(real, number, 0), real

    def add(self, array: Array, values: Array) -> Array:
        """Values [q, m] added to the columns of an array [q, g] where they lie. May overwrite it."""
        window = self.relevance.window
        if self.columns is not None:
            nothing = self.framework.zeros((values.shape[0], window.width), values)
            values = self.framework.add_at(nothing, self.columns, values)
        return self.framework.add_columns(array, window, values)


class Relation(Protocol):
    """Which items of a gallery are candidates and positives of each query of a batch."""

    @property
    def rows(self) -> tuple[Array, ...]:
        """Arrays with one row a query, which `of_block` receives in slices."""

    @property
    def count(self) -> Array:
        """[queries] number of positives."""

    @property
    def always(self) -> bool:
        """Whether every query is known to have a positive."""

    def of_block(self, rows: tuple[Array, ...], like: Array) -> Relevance:
        """The relevance of a block of queries, in the dtype of their scores `like` [q, g]."""


@dataclass(frozen=True)
class SliceRelation:
    """The positives of query a are the gallery's rows [first[a], last[a]), less row own[a]."""

    framework: Framework
    width: int
    first: Array
    last: Array
    own: Array | None
    always: bool = False
    views: int | None = None
    """The length of every slice, where all have the same and follow on each other."""

    @cached_property
    def count(self) -> Array:
        count = self.last - self.first
        return count if self.own is None else count - 1

    @property
    def rows(self) -> tuple[Array, ...]:
        return (self.first, self.last) if self.own is None else (self.first, self.last, self.own)

    def of_block(self, rows: tuple[Array, ...], like: Array) -> Relevance:
        first, last, own = rows if len(rows) == 3 else (*rows, None)
        count = last - first if own is None else self.framework.xp.where(last > first, last - first - 1, 0)
        count = self.framework.xp.astype(count, like.dtype)
        return SliceRelevance(
            self.framework,
            self.width,
            first,
            last,
            own,
            count,
            self.always,
            self.views,
            self._span(like.shape[0]),
        )

    def _span(self, queries: int) -> int | None:
        """How many columns the slices of that many neighbouring queries lie in, a block's first ones or later."""
        if self.views is None:
            return None
        whole = queries % self.views == 0  # blocks start at multiples of their length
        return queries if whole else queries + 2 * (self.views - 1)


@dataclass(frozen=True)
class MaskRelation:
    """The positives of query a are the items i with relevant[a, i]; its candidates those with valid[a, i]."""

    framework: Framework
    relevant: Array
    valid: Array | None = None

    always = False

    @cached_property
    def count(self) -> Array:
        return self.framework.xp.count_nonzero(self._positives(self.relevant, self.valid), axis=1)

    @staticmethod
    def _positives(relevant: Array, valid: Array | None) -> Array:
        return relevant if valid is None else relevant & valid

    @property
    def rows(self) -> tuple[Array, ...]:
        return (self.relevant,) if self.valid is None else (self.relevant, self.valid)

    def of_block(self, rows: tuple[Array, ...], like: Array) -> Relevance:
        relevant, valid = rows if len(rows) == 2 else (*rows, None)
        xp = self.framework.xp
        positives = self._positives(relevant, valid)
        count = xp.sum(xp.astype(positives, like.dtype), axis=1)
        return MaskRelevance(self.framework, positives, valid, count)


def relation_of_views(
    framework: Framework, images: int, views: int, like: Array, exclude_query: bool
) -> Relation:
    """Views of an image, stored one after another, are each other's positives."""
    own = framework.arange(images * views, like)
    first = own - own % views
    return SliceRelation(
        framework,
        width=images * views,
        first=first,
        last=first + views,
        own=own if exclude_query else None,
        always=views > 1 or not exclude_query,
        views=views,
    )


def relation_of_labels(
    framework: Framework, labels: Array, sorted_labels: Array, own: Array | None
) -> SliceRelation:
    """Queries with `labels` against a gallery sorted by label; `own` is each query's place there, or None."""
    xp = framework.xp
    first = xp.astype(xp.searchsorted(sorted_labels, labels, side="left"), framework.index_dtype)
    last = xp.astype(xp.searchsorted(sorted_labels, labels, side="right"), framework.index_dtype)
    return SliceRelation(framework, sorted_labels.shape[0], first, last, own)
