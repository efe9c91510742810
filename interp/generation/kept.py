"""Rollouts that are kept as they are written, so that a kill loses no more than the batch at work."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from interp.generation.batches import generate
from interp.generation.rollouts import BASELINE, Condition, Rollout, Sampling
from interp.models import Model
from interp.sites import Site
from interp.store import Rows, only_writer
from interp.transcripts import Transcript


def keep(
    model: Model,
    prompts: Sequence[Transcript],
    rows: Rows,
    *,
    conditions: Sequence[Condition] = (BASELINE,),
    samples: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    batch_rows: int = 256,
    residual_norms: Mapping[Site, float] | None = None,
    stamp: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """The rollouts of every prompt under every condition, in the order of their keys; those not in `rows` are written.

    Rows are added after every batch, each with the fields of `stamp` beside its own. Guarantee (test): stopped
    anywhere and called again, the file ends with the same bytes as that of an uninterrupted call. Rows of further
    prompts, conditions or samples are left where they are, and are not among what comes back.

    Raises:
        EditError, ExperimentError: as `generate` does.
        StoreError: the file of rows is damaged.
    """
    wanted = {(p.id, c.name, sample) for p in prompts for c in conditions for sample in range(samples)}
    tell = on_progress or (lambda done, total: None)
    with only_writer(rows.path):
        known = {one.key: one for one in map(Rollout.from_row, rows.read()) if one.key in wanted}
        tell(len(known), len(wanted))
        found = generate(
            model,
            prompts,
            conditions,
            samples=samples,
            seed=seed,
            sampling=sampling,
            batch_rows=batch_rows,
            residual_norms=residual_norms,
            skip=frozenset(known),
        )
        while batch := list(islice(found, batch_rows)):
            rows.extend(one.to_row() | dict(stamp or {}) for one in batch)
            known |= {one.key: one for one in batch}
            tell(len(known), len(wanted))
    return [one for _, one in sorted(known.items())]
