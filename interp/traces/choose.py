"""Which of a probe's directions a trace reads, where nobody names all of them."""

from collections.abc import Iterable, Sequence

from interp.directions import Direction
from interp.errors import ProbeError
from interp.sites import Site

MOST_SITES, MOST_ROWS = 12, 96
"""A page of 2,000 tokens stays below 3 MB with 12 sites of 8 directions each."""
USUAL = "emotion:desperate"


def choose(
    found: Iterable[Direction], names: Sequence[str] = (), sites: Sequence[Site] = (), *, middle: Site | None = None
) -> list[Direction]:
    """The directions to trace; the first is the one that text and pictures show.

    With names, those; else `emotion:desperate` (or the first there is), then others of its kind, then the rest. With
    sites, those; else up to `MOST_SITES` of the fitted ones, evenly spread, the one nearest to `middle` first. Without
    names, as many as make `MOST_ROWS` rows.

    Raises:
        ProbeError: there is no such direction, or it was not fitted at such a site.
    """
    by_place = {(direction.name, direction.site): direction for direction in found}
    known = list(dict.fromkeys(name for name, _ in by_place))
    fitted = sorted({site for _, site in by_place})
    for name in names:
        if name not in known:
            choices = ", ".join(sorted(known))
            raise ProbeError(f"tracing direction {name}", "it has no such direction", f"choose one of {choices}")
    for site in sites:
        if site not in fitted:
            choices = ", ".join(map(str, fitted))
            raise ProbeError(f"reading at {site}", "the probe was not fitted there", f"choose one of {choices}")
    places = list(sites) or _spread(fitted, middle or fitted[len(fitted) // 2])
    called = list(names) or _ordered(known)[: max(1, MOST_ROWS // len(places))]
    return [by_place[name, site] for name in called for site in places if (name, site) in by_place]


def _ordered(known: Sequence[str]) -> list[str]:
    first = USUAL if USUAL in known else known[0]
    kind = first.partition(":")[0]
    return sorted(known, key=lambda name: (name != first, name.partition(":")[0] != kind))


def _spread(fitted: Sequence[Site], middle: Site) -> list[Site]:
    """At most `MOST_SITES` of the sites, evenly spread; the nearest to `middle` is among them, and first."""
    nearest = min(fitted, key=lambda site: (site.stream != middle.stream, abs(site.layer - middle.layer), site))
    others = [site for site in fitted if site != nearest]
    room = min(MOST_SITES - 1, len(others))
    return [nearest, *(others[index * len(others) // room] for index in range(room))]
