"""Control directions, kind by kind.

Every control has a vector at every site of the treatment, of the treatment's norm there, so that the same index is the
same kind, draw and labelling everywhere.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.activations import Activations
from interp.directions import Direction, random_like
from interp.emotions.vectors import class_means, emotions_of, space_at
from interp.errors import ExperimentError
from interp.probes import Blocks, fit_site, grouped_folds, shuffled_labels
from interp.probes.nulls import donors
from interp.probes.random_directions import draw
from interp.probes.splits import fold_codes
from interp.sites import Site

Vectors = Mapping[Site, Direction]
"""One direction, as its vector at every site."""

_LEFT, MOST_LEFT = 1e-4, 0.9
"""Where a smaller share of a direction is left, nothing is; where a larger one is, it is the direction itself."""


@dataclass(frozen=True, eq=False)
class Control:
    """One control direction with its kind, seed and norms."""

    name: str
    """Unique in a bank, such as `random:3`."""
    kind: str
    seed: int | None
    """Of the draw; None where nothing was drawn."""
    vectors: Vectors

    @property
    def norms(self) -> dict[Site, float]:
        """Length at every site: the treatment's."""
        return {site: direction.norm for site, direction in self.vectors.items()}

    @property
    def cosines(self) -> dict[Site, float]:
        """Cosine with the treatment at every site: far from 0, it carries some of what is under test."""
        return {site: direction.meta["cosine"] for site, direction in self.vectors.items()}

    def to_dict(self) -> dict[str, Any]:
        """What a run record keeps."""
        return {
            "name": self.name,
            "kind": self.kind,
            "seed": self.seed,
            "norms": {str(site): norm for site, norm in self.norms.items()},
            "cosines": {str(site): cosine for site, cosine in self.cosines.items()},
        }


@dataclass(frozen=True, eq=False)
class FittedRows:
    """What a probe was fitted on, row by row."""

    acts: Mapping[Site, Tensor]
    labels: Bool[np.ndarray, " row"]
    groups: Sequence[Hashable]
    method: str = "difference_of_means"
    """One of `interp.probes.METHODS`, or of the methods that `fit_site` takes."""
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values of other fields, from which unrelated concepts are learned."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """`shrinkage` and `l2` of the fit, where they are not the default."""

    @classmethod
    def of(
        cls, acts: Activations, is_positive: Sequence[bool] | np.ndarray, fields: Sequence[str] = (), **how: Any
    ) -> "FittedRows":
        """Rows of a collected set, with a label for each of its transcripts and `fields` read from their `meta`.

        Raises:
            ExperimentError: the labels are not one per transcript, or a transcript lacks a field.
        """
        asked, entries = "making controls from the rows of a probe", acts.transcripts
        if len(is_positive) != len(entries):
            found = f"{len(is_positive)} labels for {len(entries)} transcripts"
            raise ExperimentError(asked, found, "give one label per transcript of the set")
        for name in fields:
            if lacking := [entry.id for entry in entries if name not in entry.meta]:
                raise ExperimentError(asked, f"no {name} in meta of {len(lacking)} transcripts", "name another field")
        of_row = acts.rows.transcript
        values = {name: [str(entries[index].meta[name]) for index in of_row] for name in fields}
        return cls(acts, np.asarray(is_positive, bool)[of_row], acts.groups, fields=values, **how)


@dataclass(frozen=True, eq=False)
class StoryRows:
    """The stories that an emotion vector was fitted on, with what was taken out of it."""

    acts: Activations
    emotion: str
    against: str | None = None
    """The other emotion of a contrast; None for the mean of all emotions."""
    neutral: Activations | None = None


def random_controls(treatment: Vectors, n: int, *, seed: int) -> list[Control]:
    """Isotropic directions; the same draw at every site."""
    drawn = {site: [d.vector for d in random_like(direction, n, seed=seed)] for site, direction in treatment.items()}
    return _controls(treatment, "random", [f"random:{k}" for k in range(n)], drawn, seed)


def covariance_controls(treatment: Vectors, acts: Mapping[Site, Tensor], n: int, *, seed: int) -> list[Control]:
    """Directions that vary as the rows of `acts` do: the same combination of the rows at every site.

    Raises:
        ExperimentError: a site was not read.
    """
    _refuse_unread(treatment, acts)
    drawn = {site: list(draw(acts[site].float(), n, seed=seed)) for site in treatment}
    return _controls(treatment, "covariance", [f"covariance:{k}" for k in range(n)], drawn, seed)


def permuted_controls(treatment: Vectors, rows: FittedRows, n: int, *, seed: int) -> list[Control]:
    """What the probe's own method finds after labels were shuffled between groups: one shuffle for all sites.

    Raises:
        ExperimentError: a site was not read.
        ProbeError: the labels cannot be shuffled or fitted.
    """
    _refuse_unread(treatment, rows.acts)
    labels = shuffled_labels(rows.labels, rows.groups, n=n, seed=seed)
    fitted = {site: _fit(rows, site, labels, rows.method) for site in treatment}
    return _controls(treatment, "permuted", [f"permuted:{k}" for k in range(n)], fitted, seed, method=rows.method)


def permuted_emotions(treatment: Vectors, stories: StoryRows, n: int, *, seed: int) -> list[Control]:
    """The emotion vector of stories whose emotions were shuffled between groups, one shuffle for all sites.

    Raises:
        ExperimentError: a site was not read, or no story tells of the emotion.
        ProbeError: stories do not name their emotions.
    """
    _refuse_unread(treatment, stories.acts)
    told = np.array(emotions_of(stories.acts))
    pool = sorted(set(told.tolist()))
    wanted = [stories.emotion, *([stories.against] if stories.against else [])]
    if missing := [name for name in wanted if name not in pool]:
        found = f"no stories of {', '.join(missing)}"
        raise ExperimentError("shuffling emotions", found, f"name some of {', '.join(pool)}")
    shuffled = told[donors(stories.acts.groups, n=n, seed=seed)]
    fitted: dict[Site, list[Tensor]] = {}
    for site in treatment:
        read, space = stories.acts.read(site), space_at(site, stories.acts, stories.neutral)
        fitted[site] = []
        for labels in shuffled.tolist():
            means = class_means(read, labels, pool)
            vectors = means - means.mean(0) if space is None else space.without(means - means.mean(0))
            signs = [(name == stories.emotion) - (name == stories.against) for name in pool]
            fitted[site].append(torch.tensor(signs, dtype=vectors.dtype, device=vectors.device) @ vectors)
    return _controls(treatment, "permuted", [f"permuted:{k}" for k in range(n)], fitted, seed, method="emotion_vector")


def emotion_controls(treatment: Vectors, emotions: Mapping[str, Vectors]) -> list[Control]:
    """The vectors of other emotions.

    Raises:
        ExperimentError: one of them lacks a site, or is the treatment.
    """
    found = []
    for name, vectors in emotions.items():
        _refuse_unread(treatment, vectors, of=name)
        if any(torch.equal(vectors[site].unit, direction.unit) for site, direction in treatment.items()):
            raise ExperimentError(f"controlling with {name}", "it is the direction under test", "leave it out")
        of_site = {site: [vectors[site].vector] for site in treatment}
        found += _controls(treatment, "emotion", [name], of_site, None)
    return found


def concept_controls(treatment: Vectors, rows: FittedRows) -> list[Control]:
    """Difference of means of every value of every field against the rest; of a field of two values, of one.

    Which side of a concept is its positive one is a matter of naming, so each points to the treatment's side (by its
    mean cosine over sites), where it is the harder control.

    Raises:
        ExperimentError: a field has one value, or none with rows enough.
    """
    _refuse_unread(treatment, rows.acts)
    named: list[tuple[str, str]] = []
    labels: list[np.ndarray] = []
    for name, values in rows.fields.items():
        here = np.asarray([str(value) for value in values])
        every = sorted(set(here.tolist()))
        fine = [v for v in every[: 1 if len(every) == 2 else None] if _varies(here == v, rows.groups)]
        if not fine:
            found = f"no value of {name} that some rows have and others lack"
            raise ExperimentError("learning concepts for controls", found, "name a field that varies between groups")
        named += [(name, value) for value in fine]
        labels += [here == value for value in fine]
    fitted = {site: _fit(rows, site, np.stack(labels), "difference_of_means") for site in treatment}
    names = [f"concept:{name}={value}" for name, value in named]
    for index in range(len(names)):
        units = {site: found[index].double().cpu() for site, found in fitted.items()}
        if sum(float(units[s] @ d.unit.double().cpu() / units[s].norm()) for s, d in treatment.items()) < 0:
            names[index] = names[index].replace("=", "!=", 1)
            for vectors in fitted.values():
                vectors[index] = -vectors[index]
    return _controls(treatment, "concept", names, fitted, None, method="difference_of_means")


def remainder_control(treatment: Vectors, concept: Mapping[str, Vectors]) -> Control:
    """The treatment without its component in the span of other directions of its concept, at its old length.

    `meta["kept"]` is the share of its length that was left before.

    Raises:
        ExperimentError: one of them lacks a site, nothing is left, or so much that it is no control.
    """
    left: dict[Site, list[Tensor]] = {}
    shares = {}
    for site, direction in treatment.items():
        for name, vectors in concept.items():
            _refuse_unread(treatment, vectors, of=name)
        unit = direction.unit.double()
        rest = without_span(unit, torch.stack([vectors[site].vector for vectors in concept.values()]))
        shares[site] = float(rest.norm())
        if not _LEFT <= shares[site] <= MOST_LEFT:
            none = shares[site] < _LEFT
            raise ExperimentError(
                f"taking {', '.join(concept)} out of {direction.key}",
                "nothing is left" if none else f"{shares[site]:.0%} of its length is left: it is still the direction",
                "name fewer directions" if none else "name directions that share more with it, or none",
            )
        left[site] = [rest]
    control = _controls(treatment, "remainder", [f"without:{'+'.join(concept)}"], left, None)[0]
    kept = {site: _with_meta(direction, kept=shares[site]) for site, direction in control.vectors.items()}
    return Control(control.name, control.kind, None, kept)


def without_span(vector: Float[Tensor, " d_model"], span: Float[Tensor, "name d_model"]) -> Float[Tensor, " d_model"]:
    """The component of a vector at right angles to all rows of `span`, in float64."""
    rows = span.double()
    basis, sizes, _ = torch.linalg.svd((rows / rows.norm(dim=1, keepdim=True)).T, full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]]
    return vector.double() - basis @ (basis.T @ vector.double())


def flipped_control(treatment: Vectors) -> Control:
    """The treatment with the other sign."""
    turned = {site: [-direction.vector] for site, direction in treatment.items()}
    return _controls(treatment, "flipped", ["flipped"], turned, None)[0]


def _fit(
    rows: FittedRows, site: Site, labels: Bool[np.ndarray, "labelling row"], method: str
) -> list[Float[Tensor, " d_model"]]:
    """The fitting code of probes, on all rows; the folds that it asks for keep groups whole and decide nothing."""
    blocks, found = Blocks.from_rows(rows.acts[site]), []
    for labelling in labels:
        folds = fold_codes(grouped_folds(labelling, rows.groups, folds=2, seed=0), rows.groups)
        fits = fit_site(blocks, labelling[None], folds, (method,), **rows.settings)
        found.append(fits.vectors[method][0])
    return found


def _varies(labels: Bool[np.ndarray, " row"], groups: Sequence[Hashable]) -> bool:
    """Whether some groups have it and others lack it: two of each at least."""
    sides = [{group for group, has in zip(groups, labels, strict=True) if has == side} for side in (True, False)]
    return min(map(len, sides)) >= 2


def _controls(
    treatment: Vectors,
    kind: str,
    names: Sequence[str],
    vectors: Mapping[Site, Sequence[Tensor]],
    seed: int | None,
    **meta: Any,
) -> list[Control]:
    """Controls from raw vectors, each brought to the treatment's norm at its site."""
    found = []
    for index, name in enumerate(names):
        at: dict[Site, Direction] = {}
        for site, real in treatment.items():
            raw = vectors[site][index].detach().double().cpu()
            vector = (raw / raw.norm().clamp(min=1e-300) * real.norm).to(torch.float32)
            made = Direction(name, vector, site, model=real.model, meta={"control": kind, "seed": seed, **meta})
            cosine = float(made.unit.double() @ real.unit.double().cpu())
            at[site] = _with_meta(made, norm=made.norm, cosine=cosine)
        found.append(Control(name, kind, seed, at))
    return found


def _with_meta(direction: Direction, **meta: Any) -> Direction:
    known = {**direction.meta, **meta}
    return Direction(direction.name, direction.vector, direction.site, model=direction.model, meta=known)


def _refuse_unread(treatment: Vectors, source: Mapping[Site, Any], of: str = "the rows") -> None:
    if lacking := [str(site) for site in treatment if site not in source]:
        raise ExperimentError(f"making controls from {of}", f"nothing at {', '.join(lacking)}", "read every site")
