"""Edits beyond one projection: spans of directions, rotations, levels at a quantile, means with the concept back."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from interp.directions import Direction
from interp.edits import Edit, When, place, shift_of, with_quantiles
from interp.errors import EditError
from interp.sites import Site

WIDTH, SITE = 16, Site(1)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


D, E, F = (
    Direction(name, noise(WIDTH, seed=seed) * (1 + seed), SITE, offset=0.3 * seed + 0.7, scale=2.0)
    for seed, name in enumerate("def")
)
ACTS = noise(2, 40, WIDTH, seed=9) * 3
EVERYWHERE = torch.ones(2, 40, dtype=torch.bool)


def edited(edit: Edit, acts: Tensor = ACTS, where: Tensor | None = None) -> Tensor:
    """Under an edit of every row; where it says that it changed nothing, it did not."""
    (layer,) = place([[edit]] * len(acts), d_model=WIDTH)[edit.sites[0]]
    where = torch.ones(acts.shape[:2], dtype=torch.bool) if where is None else where
    after, changed = layer.move.apply(acts, where)
    assert torch.equal(after[~changed], acts[~changed])
    return after


def projector(*directions: Direction) -> Tensor:
    """Onto the span, by another route: the pseudo-inverse."""
    columns = torch.stack([direction.vector.double() for direction in directions], 1)
    return (columns @ torch.linalg.pinv(columns)).float()


def in_span(acts: Tensor, *directions: Direction) -> Tensor:
    return acts @ projector(*directions)


SPAN = (D, E, F)


def test_ablating_a_span_leaves_no_component_along_any_of_its_directions() -> None:
    after = edited(Edit.of("ablate", D, 1.0, span=[E, F]))
    assert torch.allclose(after, ACTS - in_span(ACTS, *SPAN), atol=1e-4)
    assert max(float(d.project(after).abs().max()) for d in SPAN) < 1e-4
    one_by_one = edited(Edit.of("ablate", F, 1.0), edited(Edit.of("ablate", E, 1.0), edited(Edit.of("ablate", D, 1.0))))
    assert float(D.project(one_by_one).abs().max()) > 0.1, "control: one after the other brings the first back"
    assert torch.allclose(edited(Edit.of("ablate", D, 0.5, span=[E, F])), ACTS - in_span(ACTS, *SPAN) / 2, atol=1e-4)


def test_the_order_of_a_span_does_not_matter() -> None:
    one, other = Edit.of("ablate", D, 1.0, span=[E, F]), Edit.of("ablate", F, 1.0, span=[D, E])
    assert torch.allclose(edited(one), edited(other), atol=1e-4)


def test_mean_ablating_a_span_leaves_every_direction_at_its_own_mean() -> None:
    after = edited(Edit.of("mean_ablate", D, 1.0, span=[E, F]))
    for direction in SPAN:
        assert torch.allclose(direction.project(after), torch.tensor(direction.offset), atol=1e-4)
    outside = torch.eye(WIDTH) - projector(*SPAN)
    assert torch.allclose(after @ outside, ACTS @ outside, atol=1e-4), "nothing else moves"


def test_a_cap_in_a_span_bounds_the_distance_from_the_mean_and_leaves_the_rest() -> None:
    mean = edited(Edit.of("mean_ablate", D, 1.0, span=[E, F]), torch.zeros(1, 1, WIDTH))[0, 0]
    radius = 5.0
    after, before = edited(Edit.of("cap", D, radius, span=[E, F])), in_span(ACTS, *SPAN) - mean
    far = before.norm(dim=-1) > radius
    assert far.any() and not far.all()
    assert torch.equal(after[~far], ACTS[~far])
    left = in_span(after, *SPAN) - mean
    assert torch.allclose(left[far].norm(dim=-1), torch.tensor(radius), atol=1e-3)
    assert torch.allclose(torch.cosine_similarity(left[far], before[far], dim=-1), torch.tensor(1.0), atol=1e-4)


def test_rotating_keeps_every_length_and_turns_by_the_angle() -> None:
    after = edited(Edit.of("rotate", D, 20.0))
    assert torch.allclose(after.norm(dim=-1), ACTS.norm(dim=-1), rtol=1e-5)
    before, turned = (torch.acos(D.project(acts) / acts.norm(dim=-1)).rad2deg() for acts in (ACTS, after))
    assert torch.allclose(before - turned, torch.tensor(20.0), atol=0.05)
    across = [acts - D.project(acts)[..., None] * D.unit for acts in (ACTS, after)]
    cosine = torch.cosine_similarity(*across, dim=-1)
    assert torch.allclose(cosine, torch.tensor(1.0), atol=1e-4), "within the plane of the token and the direction"


def test_rotating_there_and_back_restores_and_never_passes_the_direction() -> None:
    assert torch.allclose(edited(Edit.of("rotate", D, -15.0), edited(Edit.of("rotate", D, 15.0))), ACTS, atol=1e-4)
    on_it = edited(Edit.of("rotate", D, 179.0))
    assert torch.allclose(D.project(on_it), ACTS.norm(dim=-1), rtol=1e-4)
    opposite = edited(Edit.of("rotate", D, -179.0))
    assert torch.allclose(D.project(opposite), -ACTS.norm(dim=-1), rtol=1e-4)


def test_a_token_on_the_line_of_the_direction_is_left_alone() -> None:
    lying = torch.stack([D.unit * 3, D.unit * -3, torch.zeros(WIDTH)])[None]
    assert torch.equal(edited(Edit.of("rotate", D, 30.0), lying), lying)


def test_rotating_in_a_plane_turns_the_second_direction_into_the_first() -> None:
    quarter = Edit.of("rotate", D, 90.0, span=[E])
    second = E.unit - (E.unit @ D.unit) * D.unit
    second = second / second.norm()
    assert torch.allclose(edited(quarter, second.expand(1, 1, -1))[0, 0], D.unit, atol=1e-5)
    after = edited(quarter)
    assert torch.allclose(after.norm(dim=-1), ACTS.norm(dim=-1), rtol=1e-5)
    outside = torch.eye(WIDTH) - projector(D, E)
    assert torch.allclose(after @ outside, ACTS @ outside, atol=1e-4)
    four = ACTS
    for _ in range(4):
        four = edited(quarter, four)
    assert torch.allclose(four, ACTS, atol=1e-4)


ZERO = [
    Edit.of("rotate", D, 0.0),
    Edit.of("rotate", D, 0.0, span=[E]),
    Edit.of("ablate", D, 0.0, span=[E, F]),
    Edit.of("mean_ablate", D, 0.0, span=[E]),
    Edit.of("cap", D, 1e9, span=[E]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edit", ZERO, ids=lambda e: f"{e.kind} {len(e.span)}")
def test_zero_strength_of_every_shape_is_bit_for_bit_nothing(edit: Edit, dtype: torch.dtype) -> None:
    assert torch.equal(edited(edit, ACTS.to(dtype)), ACTS.to(dtype))
    value = 1.0 if edit.kind == "cap" else 0.5
    pushed = replace(edit, strength=replace(edit.strength, value=value))
    assert not torch.equal(edited(pushed, ACTS.to(dtype)), ACTS.to(dtype)), "control"


@pytest.mark.parametrize("edit", [Edit.of("rotate", D, 9.0), Edit.of("ablate", D, 1.0, span=[E])], ids=["one", "span"])
def test_tokens_out_of_scope_are_left_by_every_shape(edit: Edit) -> None:
    where = EVERYWHERE.clone()
    where[:, ::2] = False
    after = edited(edit, where=where)
    assert torch.equal(after[~where], ACTS[~where]) and not torch.equal(after[where], ACTS[where])


def test_rows_of_different_shapes_stand_side_by_side_and_keep_their_order() -> None:
    rows = [
        [Edit.of("ablate", D, 1.0, span=[E, F]), Edit.of("add", D, 1.0, "raw")],
        [Edit.of("add", D, 1.0, "raw"), Edit.of("rotate", E, 30.0)],
        [Edit.of("rotate", E, 30.0), Edit.of("ablate", D, 1.0, span=[E])],
        [],
    ]
    acts = ACTS[:1].expand(4, -1, -1)
    together = acts
    for layer in place(rows, d_model=WIDTH)[SITE]:
        where = layer.where(torch.arange(40).expand(4, -1), torch.full((4,), 40), torch.ones(4, 40, dtype=torch.bool))
        together, _ = layer.move.apply(together, where)
    for row, edits in enumerate(rows):
        alone = acts[:1]
        for edit in edits:
            alone = edited(edit, alone)
        assert torch.allclose(together[row], alone[0], atol=1e-5)
    assert torch.equal(together[3], acts[3])
    swapped = edited(rows[1][0], edited(rows[1][1], acts[:1]))
    assert not torch.allclose(swapped[0], together[1], atol=1e-2), "control: the order matters"


def test_the_concept_comes_back_on_top_of_its_mean() -> None:
    for alpha in (0.0, 1.0, -0.5):
        after = edited(Edit.of("mean_ablate", D, 1.0, back=alpha))
        assert torch.allclose(D.project(after), torch.tensor(D.offset + alpha * D.norm), atol=1e-4)


def test_a_level_at_a_quantile_fires_on_that_share_of_the_reference() -> None:
    reference = noise(5000, WIDTH, seed=3).exp()
    known = with_quantiles(D, reference)
    cap = edited(Edit.of("cap", known, 0.9, "quantile"), reference[None])[0]
    floor = edited(Edit.of("floor", known, 0.1, "quantile"), reference[None])[0]
    for after in (cap, floor):
        assert abs(float((after != reference).any(-1).float().mean()) - 0.1) < 0.005
    assert torch.equal(edited(Edit.of("cap", known, 1.0, "quantile"), reference[None])[0] != reference, reference > 1e9)
    level = shift_of(Edit.of("cap", known, 0.5, "quantile"), SITE).high
    assert level == pytest.approx(float(D.project(reference).median()), abs=1e-2)
    normal = D.calibrated(reference)
    share = float((normal.score(reference) > 1.2816).float().mean())
    assert abs(share - 0.1) > 0.005, "control: mean and deviation alone do not know the quantile"


def test_a_quantile_without_a_reference_is_refused() -> None:
    with pytest.raises(EditError, match="no quantiles"):
        place([[Edit.of("cap", D, 0.9, "quantile")]], d_model=WIDTH)
    with pytest.raises(EditError, match="quantile 2"):
        place([[Edit.of("cap", with_quantiles(D, ACTS[0]), 2.0, "quantile")]], d_model=WIDTH)


def test_a_total_is_shared_by_the_sites_and_adds_up() -> None:
    sites, norms = [Site(0), Site(1), Site(2)], {Site(0): 10.0, Site(1): 20.0, Site(2): 60.0}
    total = Edit.of("add", D, 6.0, "raw", sites=sites, total=True)
    assert sum(shift_of(total, site).intercept for site in sites) == pytest.approx(6.0)
    each = Edit.of("add", D, 6.0, "raw", sites=sites)
    assert sum(shift_of(each, site).intercept for site in sites) == pytest.approx(18.0), "control: without it"
    share = Edit.of("add", D, 0.3, "resid", sites=sites, total=True)
    assert sum(shift_of(share, site, norms).intercept / norms[site] for site in sites) == pytest.approx(0.3)
    turned = edited(Edit.of("rotate", D, 45.0, sites=sites, total=True))
    assert torch.allclose(turned, edited(Edit.of("rotate", D, 15.0)), atol=1e-6)


def test_a_record_keeps_what_was_asked_and_no_more() -> None:
    plain = Edit.of("add", D, 1.0).to_dict()
    assert set(plain) == {"kind", "direction", "strength", "unit", "sites", "scope"}
    when = When(E, Edit.of("cap", E, 1.5).strength)
    asked = Edit.of("ablate", D, 1.0, span=[E], when=when).to_dict()
    assert asked["span"] == ["e@L1.resid_post"]
    assert asked["when"] == {"direction": "e@L1.resid_post", "score": "at least", "level": 1.5, "unit": "z"}


def late() -> When:
    return When(replace(E, site=Site(2)), Edit.of("cap", E, 1.0).strength)


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (lambda: Edit.of("add", D, 1.0, span=[E]), "several directions"),
        (lambda: Edit.of("floor", D, 1.0, span=[E]), "several directions"),
        (lambda: Edit.of("rotate", D, 1.0, span=[E, F]), "3 directions"),
        (lambda: Edit.of("cap", D, 1.0, "z", span=[E]), "in a span"),
        (lambda: Edit.of("cap", D, -1.0, span=[E]), "in a span"),
        (lambda: Edit.of("ablate", D, 1.0, back=1.0), "back"),
        (lambda: Edit.of("ablate", D, 1.0, total=True), "total"),
        (lambda: Edit.of("ablate", D, 1.0, when=late()), "after L1.resid_post"),
        (lambda: When(D, Edit.of("add", D, 1.0).strength), "a level of"),
        (lambda: place([[Edit.of("ablate", D, 1.0, span=[replace(D, name="same")])]], d_model=WIDTH), "the others"),
        (lambda: Edit.of("rotate", D, math.inf), "finite"),
    ],
)
def test_what_has_no_meaning_is_refused(made, match: str) -> None:
    with pytest.raises(EditError, match=match):
        made()
