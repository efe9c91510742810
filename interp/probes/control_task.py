"""Control tasks (Hewitt and Liang, 1909.03368): does a probe read the concept, or know groups by heart?"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.probes.moments import Blocks
from interp.probes.nulls import Groups, aurocs
from interp.probes.sweep import METHODS, fit_site
from interp.sites import Site
from interp.stats import control_rank

N_CONTROLS = 39


@dataclass(frozen=True)
class ControlTask:
    """One method at one site: AUROC on rows that it has not seen, of groups that it has."""

    site: str
    method: str
    auroc: float | None
    """With the real labels."""
    control: float | None
    """With labels drawn at random for every group: the mean over the control labellings."""
    control_low: float | None
    """The lowest of the control labellings."""
    control_high: float | None
    selectivity: float | None
    """Real minus control."""
    p_value: float | None
    """Of the real AUROC among the controls, one-sided; None where labels differ within groups, as no control's do."""
    floor: float | None
    """The smallest p that so many controls can give."""
    controls: int
    n: int
    """Rows that could be used."""
    groups: int
    left_out: int
    """Rows that are alone in their group."""
    note: str
    """Why there are no figures; empty where there are."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ControlTask":
        """What `dataclasses.asdict` wrote."""
        return cls(**row)


def control_task(
    acts: Mapping[Site, Float[Tensor, "row d_model"]],
    labels: Bool[np.ndarray, " row"],
    groups: Groups,
    methods: Sequence[str] = METHODS,
    *,
    seed: int,
    n_controls: int = N_CONTROLS,
    shrinkage: float = 0.1,
    l2: float = 10.0,
) -> tuple[ControlTask, ...]:
    """One per site of `acts`, which is read one site at a time, and method.

    The rows of every group are dealt into two halves; a probe is fitted on one and measured on the other, and the
    other way round. Here a group stands in train and test ON PURPOSE: a control label is the group's alone, so that it
    can only be learnt by heart, and only be tested on other rows of the group. As many groups are positive under a
    control as the real labels make. Rows that are alone in their group are left out and counted.

    Guarantees (tests): a planted direction is selective; labels that mean nothing are not, though a probe with more
    dimensions than groups gets them right.
    """
    rng = np.random.default_rng(seed)
    halves = _halves(groups, rng)
    kept = np.flatnonzero(halves >= 0)
    mine, chosen = [groups[int(row)] for row in kept], labels[kept]
    blank = ControlTask(
        "", "", *[None] * 7, controls=0, n=len(kept), groups=len(set(mine)), left_out=len(labels) - len(kept), note=""
    )
    reason = _obstacle(chosen, mine, halves[kept])
    if reason:
        return tuple(replace(blank, site=str(site), method=name, note=reason) for site in acts for name in methods)
    codes = np.unique(_codes(mine), return_inverse=True)[1]
    constant = all(len(set(chosen[codes == code])) == 1 for code in range(codes.max() + 1))
    many = np.concatenate([chosen[None], _controls(chosen, codes, n_controls, rng)])
    found = []
    for site, rows in acts.items():
        fits = fit_site(Blocks.from_rows(rows[kept]), many, halves[kept], methods, shrinkage=shrinkage, l2=l2)
        for name, scores in fits.held_out.items():
            found.append(_measured(replace(blank, site=str(site), method=name), aurocs(scores, many), constant))
    return tuple(found)


def _codes(groups: Sequence[Hashable]) -> Int[np.ndarray, " row"]:
    seen: dict[Hashable, int] = {}
    return np.asarray([seen.setdefault(group, len(seen)) for group in groups], dtype=int)


def _halves(groups: Groups, rng: np.random.Generator) -> Int[np.ndarray, " row"]:
    """0 or 1 per row, both in every group and as even as it can be; -1 for a row that is alone."""
    codes = _codes([*groups])
    halves = np.full(len(codes), -1)
    for code in range(codes.max(initial=-1) + 1):
        rows = rng.permutation(np.flatnonzero(codes == code))
        if len(rows) > 1:
            halves[rows] = (np.arange(len(rows)) + rng.integers(2)) % 2
    return halves


def _obstacle(labels: Bool[np.ndarray, " row"], groups: Sequence[Hashable], halves: Int[np.ndarray, " row"]) -> str:
    """Why there can be no control task, or nothing."""
    if not len(labels):
        return "every group has one row, which cannot be in both halves"
    if len(set(groups)) < 4:
        return f"{len(set(groups))} groups with two rows or more are too few to draw labels for"
    if any(labels[halves == half].all() or not labels[halves == half].any() for half in (0, 1)):
        return "half of the rows is of one class"
    return ""


def _controls(
    labels: Bool[np.ndarray, " row"],
    codes: Int[np.ndarray, " row"],
    n: int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "control row"]:
    """Labels drawn for every group. Every group has rows in both halves, so that no half lacks a class."""
    n_groups = int(codes.max()) + 1
    share = np.bincount(codes, weights=labels) / np.bincount(codes)
    positive = int(np.clip(round(float(share.sum())), 1, n_groups - 1))
    of_group = np.arange(n_groups) < positive
    return np.stack([rng.permutation(of_group)[codes] for _ in range(n)])


def _measured(blank: ControlTask, values: Float[np.ndarray, " labelling"], constant: bool) -> ControlTask:
    real, controls = float(values[0]), values[1:]
    ranked = control_rank(real, controls) if constant else None
    return replace(
        blank,
        auroc=real,
        control=float(controls.mean()),
        control_low=float(controls.min()),
        control_high=float(controls.max()),
        selectivity=real - float(controls.mean()),
        p_value=ranked and ranked.p_value,
        floor=ranked and ranked.floor,
        controls=len(controls),
    )


def lines(found: Sequence[ControlTask]) -> list[str]:
    """The section of the card."""
    if not found:
        return []
    head = found[0]
    if head.auroc is None:
        return ["## Control task", "", f"Not measured: {head.note}.", ""]
    left_out = f" {head.left_out} rows that are alone in their group are left out." if head.left_out else ""
    return [
        "## Control task",
        "",
        "Selectivity: AUROC with the real labels minus AUROC with labels drawn at random for every group "
        f"({head.controls} times; mean and range). Here, and only here, a group is in train and test on purpose: half "
        "of its rows each, so that a random label can be learnt by heart. Where both are near 1, the probe has room "
        "enough to learn every group by heart, and this test does not tell whether it did; measures on unseen groups "
        f"do. Each p is for one row of the table. {head.n} rows in {head.groups} groups.{left_out}",
        "",
        "| direction | site | real labels | random labels | range | selectivity | p |",
        "|---|---|---|---|---|---|---|",
        *map(_table_row, found),
        "",
    ]


def _table_row(one: ControlTask) -> str:
    if one.auroc is None or one.control_low is None or one.control_high is None:
        return f"| `{one.method}` | {one.site} | undefined | | | | |"
    p = "" if one.p_value is None else f"{one.p_value:.2g}"
    p = f"<= {p}" if p and one.p_value == one.floor else p
    span = f"{one.control_low:.3f} to {one.control_high:.3f}"
    return (
        f"| `{one.method}` | {one.site} | {one.auroc:.3f} | {one.control:.3f} | {span} | {one.selectivity:+.3f} | {p} |"
    )
