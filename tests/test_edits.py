"""Edits as pure functions: what each does to the projection, and what it leaves alone."""

import pytest
import torch

from interp.directions import Direction
from interp.edits import SCOPES, UNITS, Edit, Shift, Strength, place, raw_strength, shift, shift_of
from interp.errors import EditError
from interp.sites import Site

WIDTH, SITE = 16, Site(1)
D = Direction("d", torch.randn(WIDTH, generator=torch.Generator().manual_seed(0)), SITE, offset=0.7, scale=2.0)
ACTS = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1)) * 3
EVERYWHERE = torch.ones(2, 5, dtype=torch.bool)


def edited(edit: Edit, acts: torch.Tensor = ACTS, where: torch.Tensor = EVERYWHERE) -> torch.Tensor:
    shifts = torch.tensor([shift_of(edit, SITE)] * 2).T
    return shift(acts, D.unit.expand(2, -1), shifts, where)[0]


def across(acts: torch.Tensor) -> torch.Tensor:
    """What is not along the direction."""
    return acts - D.project(acts)[..., None] * D.unit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit.of("add", D, 2.0), lambda p: p + 2 * D.norm),
        (Edit.of("add", D, 2.0, "raw"), lambda p: p + 2),
        (Edit.of("ablate", D, 1.0), lambda p: 0 * p),
        (Edit.of("ablate", D, 0.5), lambda p: p / 2),
        (Edit.of("mean_ablate", D, 1.0), lambda p: 0 * p + 0.7),
        (Edit.of("cap", D, 0.5), lambda p: p.clamp(max=0.7 + 2.0 * 0.5)),
        (Edit.of("floor", D, 0.5), lambda p: p.clamp(min=0.7 + 2.0 * 0.5)),
        (Edit.of("cap", D, 1.0, "raw"), lambda p: p.clamp(max=1.0)),
    ],
    ids=lambda value: f"{value.kind} {value.strength}" if isinstance(value, Edit) else "",
)
def test_each_kind_moves_the_projection_as_it_says_and_nothing_else(edit: Edit, expected) -> None:
    before = ACTS.clone()
    after = edited(edit)
    assert torch.allclose(D.project(after), expected(D.project(ACTS)), atol=1e-4)
    assert torch.allclose(across(after), across(ACTS), atol=1e-4)
    assert torch.equal(ACTS, before), "the input is not changed"
    assert not torch.equal(after, ACTS), "control: it did something"


def test_zero_strength_is_bit_for_bit_nothing() -> None:
    assert torch.equal(edited(Edit.of("add", D, 0.0)), ACTS)
    assert torch.equal(edited(Edit.of("ablate", D, 0.0)), ACTS)


def test_adding_and_taking_away_restores() -> None:
    there = edited(Edit.of("add", D, 3.0))
    assert torch.allclose(edited(Edit.of("add", D, -3.0), there), ACTS, atol=1e-5)


def test_ablating_twice_is_ablating_once() -> None:
    once = edited(Edit.of("ablate", D, 1.0))
    assert torch.allclose(edited(Edit.of("ablate", D, 1.0), once), once, atol=1e-5)


def test_a_cap_leaves_tokens_below_it_bit_for_bit() -> None:
    after = edited(Edit.of("cap", D, 0.0))
    below = D.project(ACTS) <= 0.7
    assert below.any() and not below.all()
    assert torch.equal(after[below], ACTS[below]) and not torch.equal(after[~below], ACTS[~below])


def test_tokens_out_of_scope_come_back_bit_for_bit() -> None:
    where = torch.tensor([[True, False, True, False, False]] * 2)
    after = edited(Edit.of("add", D, 1.0), where=where)
    assert torch.equal(after[~where], ACTS[~where]) and not torch.equal(after[where], ACTS[where])


def test_half_precision_stays_half_and_moves_as_far() -> None:
    after = edited(Edit.of("add", D, 2.0, "raw"), ACTS.bfloat16())
    assert after.dtype == torch.bfloat16
    assert (D.project(after) - D.project(ACTS.bfloat16()) - 2).abs().max() < 0.1


def test_rows_of_a_batch_have_their_own_edits_in_order() -> None:
    first, second = Edit.of("ablate", D, 1.0), Edit.of("add", D, 1.0, "raw")
    layers = place([[first, second], [second], []], d_model=WIDTH)[SITE]
    acts = torch.cat([ACTS, ACTS[:1]])
    for layer in layers:
        acts, _ = layer.move.apply(acts, torch.ones(3, 5, dtype=torch.bool))
    assert torch.allclose(D.project(acts[0]), torch.tensor(1.0), atol=1e-4)
    assert torch.allclose(D.project(acts[1]), D.project(ACTS[1]) + 1, atol=1e-4)
    assert torch.equal(acts[2], ACTS[0])


def test_scopes_go_by_absolute_position_and_never_by_padding() -> None:
    layers = place([[Edit.of("add", D, 1.0, scope=scope)] for scope in SCOPES], d_model=WIDTH)[SITE]
    positions = torch.arange(4).expand(3, 4)
    real = torch.tensor([[True, True, True, False]] * 3)
    where = layers[0].where(positions, torch.tensor([2, 2, 2]), real)
    assert where.tolist() == [[True, True, True, False], [True, True, False, False], [False, False, True, False]]
    decoding = layers[0].where(torch.tensor([[2]] * 3), torch.tensor([2, 2, 2]), torch.ones(3, 1, dtype=torch.bool))
    assert decoding[:, 0].tolist() == [True, False, True]


def test_one_edit_at_several_sites_is_placed_at_each() -> None:
    placed = place([[Edit.of("ablate", D, 1.0, sites=[Site(0), Site(2)])]], d_model=WIDTH)
    assert set(placed) == {Site(0), Site(2)}


def test_strengths_convert_by_unit() -> None:
    norms = {SITE: 10.0}
    assert raw_strength(Strength(0.5, "resid"), D, SITE, norms) == 5.0
    assert raw_strength(Strength(2.0, "norm"), D, SITE, None) == pytest.approx(2 * D.norm)
    assert shift_of(Edit.of("cap", D, 0.0), SITE) == Shift(high=D.offset)
    with pytest.raises(EditError, match="not measured"):
        raw_strength(Strength(0.5, "resid"), D, Site(2), norms)


@pytest.mark.parametrize(
    ("kind", "unit", "scope", "value"),
    [
        ("push", "norm", "all", 1.0),
        ("add", "z", "all", 1.0),
        ("ablate", "norm", "all", 1.0),
        ("cap", "norm", "all", 1.0),
        ("add", "norm", "somewhere", 1.0),
        ("add", "norm", "all", float("nan")),
    ],
)
def test_an_impossible_edit_is_refused(kind: str, unit: str, scope: str, value: float) -> None:
    with pytest.raises(EditError):
        Edit.of(kind, D, value, unit, scope=scope)


def test_a_direction_of_another_width_is_refused() -> None:
    with pytest.raises(EditError, match="16 dimensions for a model of 32"):
        place([[Edit.of("add", D, 1.0)]], d_model=32)
    assert set(UNITS) == {"add", "ablate", "mean_ablate", "cap", "floor", "rotate"}
