"""The committed probes are those that the committed recipe makes, and their page shows what their card says."""

from pathlib import Path

import pytest

from interp.directions import load_directions
from interp.jobs import Recipe, job_fingerprint
from interp.models import Model, load
from interp.probes import ProbeCard
from interp.probes.glance import glance
from interp.store import read_folder

ROOT = Path(__file__).parents[1]
PROBES = ROOT / "probes"
HOW = "fit it again: interp probe probes/desperation/recipe.toml"


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


def test_the_desperation_probe_is_of_the_committed_recipe_and_this_version(organism: Model) -> None:
    card = ProbeCard.load(PROBES / "desperation" / "organism")
    recipe = Recipe.load(PROBES / "desperation" / "recipe.toml")
    assert card.job == job_fingerprint(recipe, organism.identity), HOW
    assert card.evidence is not None and set(card.evidence.missing) == {"a judge that sees the text alone"}
    assert (PROBES / "desperation" / "organism" / "card.md").read_text() == card.to_markdown(), HOW


@pytest.mark.parametrize("name", ["desperation", "emotions"])
def test_shipped_directions_belong_to_the_shipped_model(organism: Model, name: str) -> None:
    folder = PROBES / name / "organism"
    read_folder(folder, hashes=True)
    found = load_directions(folder / "directions.safetensors", model=organism.identity)
    card = ProbeCard.load(folder)
    assert set(found) == set(card.directions) and card.model == organism.identity
    assert {direction.site for direction in found.values()} == set(organism.all_sites())


def test_the_page_on_probes_shows_the_card_at_a_glance() -> None:
    card = ProbeCard.load(PROBES / "desperation" / "organism")
    assert card.evidence is not None
    shown = (ROOT / "docs" / "probes.md").read_text().partition("<!-- card -->\n")[2].partition("<!-- /card -->")[0]
    assert shown.strip() == "\n".join(glance(card.measures, card.evidence)), "copy the lines of `interp probe show`"
