"""A probe that was fitted, and all that its evidence is drawn from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from interp.activations import Activations, OnProgress, collect
from interp.directions import Direction
from interp.jobs.choose import Chosen
from interp.jobs.recipe import Recipe
from interp.models import Model
from interp.probes import Aggregation, Candidate, Measure, ReadRows, Sweep, cross_chosen
from interp.probes.chosen import Nested
from interp.store import Workspace
from interp.tokens import PositionRule
from interp.transcripts import Transcript


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe that was fitted, and all that its evidence is drawn from."""

    recipe: Recipe
    model: Model
    chosen: Chosen
    workspace: Workspace
    tell: Callable[[str], OnProgress | None]
    sweep: Sweep
    measures: tuple[Measure, ...]
    directions: Sequence[Direction]
    stories: Activations | None

    @property
    def rule(self) -> PositionRule:
        """Where transcripts are scored."""
        return PositionRule.parse(self.recipe.score_position or self.recipe.position)

    @cached_property
    def one_row(self) -> ReadRows | None:
        """One row a transcript, the mean where there are several; None where it is scored elsewhere than it learns."""
        if self.recipe.score_position not in (None, self.recipe.position):
            return None
        learn = self.sweep.data.learn
        return learn if len(learn.transcript) == learn.n else learn.pooled(Aggregation("mean"))

    @cached_property
    def nested(self) -> Nested | None:
        """The choice of method and site that does not see what it is scored on."""
        return cross_chosen(self.sweep, seed=self.recipe.seed)

    @cached_property
    def headline(self) -> Candidate:
        """The method and site of greatest AUROC."""
        return self.sweep.best

    def read(self, transcripts: Sequence[Transcript], stage: str, *, all_sites: bool = False) -> ReadRows:
        """Rows of other transcripts, read where transcripts are scored."""
        sites = tuple(self.sweep.fits) if all_sites else (self.headline.site,)
        acts = collect(
            self.model, transcripts, sites, self.rule, workspace=self.workspace, on_progress=self.tell(stage)
        )
        return ReadRows(acts, acts.rows.transcript, len(transcripts))
