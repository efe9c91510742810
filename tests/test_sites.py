"""Sites print and parse as one, and every convention of writing a layer names the same block."""

import pytest

from interp.errors import SiteError
from interp.sites import STREAMS, Site, parse_sites


@pytest.mark.parametrize("site", [Site(layer, stream) for layer in (0, 14) for stream in STREAMS], ids=str)
def test_a_site_parses_from_what_it_prints_and_from_its_hook_name(site: Site) -> None:
    assert Site.parse(str(site)) == site == Site.parse(site.hook_name)


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("14", 14),
        ("L14", 14),
        ("-1", 23),
        ("L-2.resid_post", 22),
        ("2/3", 16),
        ("0/1", 0),
        ("1/1", 23),
        ("1/2", 12),
        ("blocks.14.hook_out", 14),
    ],
)
def test_layers_count_from_zero_from_the_end_or_by_depth(text: str, layer: int) -> None:
    assert Site.parse(text, 24) == Site(layer)


def test_a_block_input_has_two_names() -> None:
    assert Site.parse("blocks.3.hook_in") == Site(3, "resid_pre")


@pytest.mark.parametrize("text", ["", "L", "x3", "24", "-25", "3/2", "1/0", "L3.resid", "L3.resid_post.x", "1.5"])
def test_what_is_no_site_raises(text: str) -> None:
    with pytest.raises(SiteError):
        Site.parse(text, 24)


@pytest.mark.parametrize("text", ["-1", "2/3"])
def test_a_relative_site_needs_the_depth(text: str) -> None:
    with pytest.raises(SiteError, match="number of layers"):
        Site.parse(text)


def test_lists_of_sites_keep_their_order_and_lose_repeats() -> None:
    assert parse_sites("2,0,-1,L0.resid_post", 3) == (Site(2), Site(0))
    assert parse_sites("all", 2) == (Site(0), Site(1)) == parse_sites(["0", "1"], 2)
