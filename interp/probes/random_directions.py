"""How well directions drawn at random tell the classes apart, on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ProbeError
from interp.probes.markdown import cell
from interp.probes.nulls import aurocs
from interp.sites import Site
from interp.stats import control_rank

DRAWN = ("isotropic", "covariance")
"""Every direction of the space alike, or as the rows vary: the more they vary along it, the likelier."""

N_RANDOM = 1000
_CHUNK = 2**24
"""Scores held in memory at once, over directions and rows."""
_ROUNDING = 1e-6
"""Rows that differ by a smaller share of their largest value do not vary."""


@dataclass(frozen=True)
class Standing:
    """Where one real AUROC stands among those of random directions."""

    name: str
    auroc: float
    rank: int
    """1: no random direction does as well."""
    percentile: float | None
    """Per cent of random directions below it."""
    p_value: float
    floor: float
    """The smallest p that so many directions can give."""


@dataclass(frozen=True)
class RandomDirections:
    """AUROC of random directions at one site, each turned so that it is at least 1/2."""

    site: str
    drawn: str
    low: float
    """In 5 % of directions it is below."""
    median: float
    high: float
    """In 5 % of directions it is above."""
    directions: int
    n: int
    """Rows."""
    standings: tuple[Standing, ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "RandomDirections":
        """What `dataclasses.asdict` wrote."""
        return cls(**{**row, "standings": tuple(Standing(**one) for one in row["standings"])})


def centred(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    """Rows less their mean, in float32; zeros where they differ by rounding alone."""
    exact = rows.double()
    apart = exact - exact.mean(0)
    varies = apart.abs().max() > _ROUNDING * exact.abs().max()
    return (apart if bool(varies) else torch.zeros_like(apart)).float()


def draw(
    rows: Float[Tensor, "row d_model"], n: int, *, drawn: str = "covariance", seed: int
) -> Float[Tensor, "direction d_model"]:
    """`n` random directions of unit length, on the rows' device; zeros where rows never vary and should say how.

    Raises:
        ProbeError: another way to draw.
    """
    if drawn not in DRAWN:
        raise ProbeError(f"drawing directions {drawn!r}", "unknown", f"choose one of {', '.join(DRAWN)}")
    width = rows.shape[1] if drawn == "isotropic" else len(rows)
    normal = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    found = torch.from_numpy(normal).to(rows.device)
    if drawn == "covariance":
        found = found @ centred(rows)
    return found / found.norm(dim=1, keepdim=True).clamp(min=1e-30)


def random_directions(
    acts: Mapping[Site, Float[Tensor, "row d_model"]],
    labels: Bool[np.ndarray, " row"],
    real: Mapping[str, Mapping[Site, float]],
    *,
    n: int = N_RANDOM,
    seed: int,
) -> tuple[RandomDirections, ...]:
    """Two for every site of `acts`, which is read one site at a time: isotropic, and within the rows' covariance.

    `real` holds the held-out AUROC of every method (or direction) by site; it is ranked as it is, though random
    directions may turn to their better side. Nothing is fitted here.

    Guarantees (tests): a planted direction has rank 1 at its site; one that reads nothing does not; rows that differ
    along everything are told apart by random directions too, and are seen to be.

    Raises:
        ProbeError: there is one class only.
    """
    if labels.all() or not labels.any():
        raise ProbeError("trying random directions", f"{len(labels)} rows of one class", "give rows of both classes")
    found = []
    for number, (site, rows) in enumerate(acts.items()):
        here = {name: values[site] for name, values in real.items() if site in values}
        for kind, drawn in enumerate(DRAWN):
            directions = draw(rows, n, drawn=drawn, seed=_seed(seed, number, kind))
            found.append(_standings(site, drawn, _folded(directions, centred(rows), labels), labels, here))
    return tuple(found)


def _seed(seed: int, *where: int) -> int:
    return int(np.random.SeedSequence([seed, *where]).generate_state(1)[0])


def _folded(
    directions: Float[Tensor, "direction d_model"], rows: Float[Tensor, "row d_model"], labels: Bool[np.ndarray, " row"]
) -> Float[np.ndarray, " direction"]:
    """The AUROC of every direction or of its opposite, whichever is larger."""
    scores = [
        aurocs((part @ rows.T).double().cpu().numpy(), np.broadcast_to(labels, (len(part), len(labels))))
        for part in directions.split(max(1, _CHUNK // len(labels)))
    ]
    values = np.concatenate(scores)
    return np.maximum(values, 1 - values)


def _standings(
    site: Site,
    drawn: str,
    values: Float[np.ndarray, " direction"],
    labels: Bool[np.ndarray, " row"],
    real: Mapping[str, float],
) -> RandomDirections:
    low, median, high = (float(value) for value in np.quantile(values, (0.05, 0.5, 0.95)))
    ranked = {name: control_rank(value, values) for name, value in real.items()}
    standings = tuple(
        Standing(name, one.real, one.rank, one.percentile, one.p_value, one.floor) for name, one in ranked.items()
    )
    return RandomDirections(str(site), drawn, low, median, high, len(values), len(labels), standings)


def lines(found: Sequence[RandomDirections]) -> list[str]:
    """The section of the card."""
    if not found:
        return []
    names = list(dict.fromkeys(one.name for each in found for one in each.standings))
    rows = []
    for one in found:
        ranks = {standing.name: f"{standing.rank} ({standing.auroc:.3f})" for standing in one.standings}
        figures = f"{one.low:.3f} | {one.median:.3f} | {one.high:.3f}"
        rows.append(
            f"| {one.site} | {one.drawn} | {figures} | {' | '.join(ranks.get(n, '') for n in names)} |".rstrip()
        )
    return [
        "## Random directions",
        "",
        f"AUROC of {found[0].directions} directions drawn at random, on the same rows, each turned to its better side: "
        "drawn alike from the whole space (isotropic), or as the rows vary (covariance). Where it is high, the classes "
        "differ along much of what the rows vary in, and a high AUROC is no merit of one direction. Then, for every "
        f"probe, its rank among them and its own AUROC: rank 1 of {found[0].directions + 1} means that no random "
        "direction did as well.",
        "",
        f"| site | drawn | 5 % | median | 95 % |{''.join(f' `{cell(name)}` |' for name in names)}",
        f"|---|---|---|---|---|{'---|' * len(names)}",
        *rows,
        "",
    ]
