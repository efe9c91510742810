"""From many rows of a transcript to one, said aloud: once for what a probe learns from, once for how it is scored.

The two are unlike. A probe that is fitted on means of a transcript's activations may be scored by the maximum over its
tokens; the mean of scores is the score of the mean, the maximum is not.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ProbeError

_KINDS = ("mean", "max", "last", "top:K")


@dataclass(frozen=True)
class Aggregation:
    """`mean`, `max`, `last`, or `top:5`, the mean of the five largest (of all, where there are fewer)."""

    kind: str
    k: int = 1

    @classmethod
    def parse(cls, text: str) -> "Aggregation":
        """The aggregation of that name.

        Raises:
            ProbeError: there is none.
        """
        found = re.fullmatch(r"(mean|max|last)|top:([1-9]\d*)", text)
        if found is None:
            raise ProbeError(f"aggregation {text!r}", "unknown", f"choose one of {', '.join(_KINDS)}")
        return cls("top", int(found[2])) if found[2] else cls(text)

    def __str__(self) -> str:
        return f"top:{self.k}" if self.kind == "top" else self.kind

    def scores(
        self,
        scores: Float[np.ndarray, "*labelling row"],
        transcript: Int[np.ndarray, " row"],
        n: int,
        *,
        among: Bool[np.ndarray, " row"] | None = None,
    ) -> Float[np.ndarray, "*labelling transcript"]:
        """One score for each of `n` transcripts; NaN for one without a row among those asked for.

        Rows of a transcript are in the order of its tokens. `among` picks rows, such as those of one segment.
        """
        order, names, starts = _by_transcript(transcript, among)
        found = np.full((*scores.shape[:-1], n), np.nan)
        if not len(names):
            return found
        sorted_scores, counts = scores[..., order], np.diff(np.append(starts, len(order)))
        if self.kind == "mean":
            found[..., names] = np.add.reduceat(sorted_scores, starts, axis=-1) / counts
        elif self.kind == "max":
            found[..., names] = np.maximum.reduceat(sorted_scores, starts, axis=-1)
        elif self.kind == "last":
            found[..., names] = sorted_scores[..., starts + counts - 1]
        else:
            for name, of_one in zip(names, np.split(sorted_scores, starts[1:], axis=-1), strict=True):
                found[..., name] = np.sort(of_one, axis=-1)[..., -self.k :].mean(axis=-1)
        return found

    def rows(
        self,
        acts: Float[Tensor, "row d_model"],
        transcript: Int[np.ndarray, " row"],
        n: int,
        *,
        among: Bool[np.ndarray, " row"] | None = None,
    ) -> Float[Tensor, "transcript d_model"]:
        """One row of activations for each of `n` transcripts, to learn from: the mean, or the last.

        Raises:
            ProbeError: a transcript has no row, or the largest is asked for before there is a score.
        """
        if self.kind not in ("mean", "last"):
            found = "no row is the largest before there is a probe"
            raise ProbeError(f"aggregating activations by {self}", found, "learn from mean or last, and score by it")
        order, names, starts = _by_transcript(transcript, among)
        missing = sorted(set(range(n)) - set(names.tolist()))
        if missing:
            found = f"{len(missing)} transcripts without a row, the first of them number {missing[0]}"
            raise ProbeError(f"aggregating activations by {self}", found, "leave them out, or choose other rows")
        parts = np.split(order, starts[1:])
        if self.kind == "last":
            return acts[torch.tensor([int(part[-1]) for part in parts])]
        return torch.stack([acts[torch.from_numpy(part)].float().mean(0) for part in parts])


def _by_transcript(transcript: np.ndarray, among: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows sorted by transcript, the transcripts that have any, and where in the sorted rows each begins."""
    rows = np.arange(len(transcript)) if among is None else np.flatnonzero(among)
    order = rows[np.argsort(transcript[rows], kind="stable")]
    names, starts = np.unique(transcript[order], return_index=True)
    return order, names, starts
