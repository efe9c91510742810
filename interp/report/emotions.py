"""One offline page of the geometry of emotion vectors: each figure and number beside what noise gives."""

from pathlib import Path

from interp.emotions.geometry import Geometry
from interp.emotions.metrics import Band, Metric
from interp.plots.geometry import component_figure, cosine_figure, metric_figure
from interp.report.page import make_page, picture
from interp.report.tables import DASH, Table, number
from interp.store import write_bytes


def write_geometry(found: Geometry, path: str | Path) -> Path:
    """Write the page, one file that opens from disk, and return its path. The same geometry gives the same bytes."""
    path = Path(path)
    pictures = {
        "metrics": picture("metrics", metric_figure(found.metrics), metric_table(found)),
        "cosines": picture("cosines", cosine_figure(found.names, found.real, found.permuted), _cosines(found)),
        "components": picture(
            "components", component_figure(found.names, found.real, found.permuted, found.norms), _places(found)
        ),
    }
    verdicts = [metric.beyond_noise for metric in found.metrics if metric.beyond_noise is not None]
    page = make_page(
        "emotions.html.j2",
        "How do the emotion vectors lie to each other?",
        pictures,
        found=found,
        passed=sum(verdicts),
        tested=len(verdicts),
        noisy=[metric.name for metric in found.metrics if metric.beyond_noise is False],
        words=_words(found),
        pieces=sum(one.pieces > 1 for one in found.lens),
    )
    write_bytes(path, page.encode())
    return path


def metric_table(found: Geometry) -> Table:
    """Every metric, its two bands, and whether noise gives it too."""
    head = ("Metric", "Value", "Random vectors, 95 %", "Permuted emotions, 95 %", "Noise gives it too", "What it is")
    return Table(head, tuple(_metric_row(metric) for metric in found.metrics))


def _metric_row(metric: Metric) -> tuple[str, ...]:
    verdict = {None: DASH, True: "no", False: "yes"}[metric.beyond_noise]
    return (
        metric.name,
        number(metric.value, ".3f"),
        _ends(metric.random),
        _ends(metric.permuted),
        verdict,
        metric.says,
    )


def _ends(band: Band | None) -> str:
    return DASH if band is None else f"{number(band.low, '.3f')} to {number(band.high, '.3f')}"


def _cosines(found: Geometry) -> Table:
    order = found.real.order
    rows = [(found.names[i], *(number(float(found.real.cosines[i, j]), "+.2f") for j in order)) for i in order]
    return Table(("Emotion", *(found.names[i] for i in order)), tuple(rows))


def _places(found: Geometry) -> Table:
    def at(places: tuple[float, float]) -> tuple[str, str]:
        return number(places[0], "+.2f"), number(places[1], "+.2f")

    rows = [
        (name, *at(tuple(real)), *at(tuple(noise)), *_rating(found, index))
        for index, (name, real, noise) in enumerate(
            zip(found.names, found.real.places.tolist(), found.permuted.places.tolist(), strict=True)
        )
    ]
    head = ("Emotion", "PC1", "PC2", "PC1, permuted", "PC2, permuted", "Valence", "Arousal")
    return Table(head, tuple(rows))


def _rating(found: Geometry, index: int) -> tuple[str, str]:
    if found.norms is None or not found.norms.rated[index]:
        return DASH, DASH
    return number(float(found.norms.valence[index]), "g"), number(float(found.norms.arousal[index]), "g")


def _words(found: Geometry) -> Table:
    rows = [
        (
            one.emotion,
            f"{one.own_rank} of {len(found.names)}",
            str(one.pieces),
            " · ".join(one.top),
            " · ".join(one.bottom),
        )
        for one in found.lens
    ]
    return Table(("Emotion", "Rank of its own word", "Tokens of it", "Promoted", "Suppressed"), tuple(rows))
