"""The page of a shared probe in the hub's format: what it reads, how well, and what it is not for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from interp.directions import Direction
from interp.probes import Measure, ProbeCard
from interp.probes.sweep import FITTED

HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_TEMPLATE = "---\n{{ card_data }}\n---\n\n{{ body }}\n"
_TAGS = ["interpretability", "linear-probe", "activation-steering", "safetensors"]

_CONFOUNDS = """\
- A direction reads whatever tells its two classes apart. Where they also differ in topic, length or wording, it may
  read that.
- The best site was chosen by its AUROC, which is therefore optimistic; its p-value allows for the choice.
- It was measured at one position rule. Scores at other tokens, of other roles, or far beyond the length of those
  transcripts were not.
- Scores are in standard deviations of one reference set. On text of another kind, zero means nothing.
- That a direction reads a concept does not show that it causes anything: steer with it, against random directions."""
_NOT_FOR = """\
- Another model, other weights, another dtype or chat template: it is refused there.
- A verdict on a single text, person or product; a filter or monitor in operation.
- The claim that a model feels anything."""


def page(
    card: ProbeCard, directions: Mapping[str, Direction], *, source: str, checks: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """README.md: the hub's metadata, then the page. Every number in it is the card's.

    Args:
        card: what was measured.
        directions: what the file holds, by key.
        source: where others pull it from: `owner/name`, or the name of a folder.
        checks: what the doctor found when it was fitted, each with `check` and `ok`.
    """
    from huggingface_hub import ModelCard, ModelCardData

    is_hub_id = HUB_ID.fullmatch(card.model.name) is not None
    relation: dict[str, Any] = {"base_model_relation": "adapter"} if is_hub_id else {}
    data = ModelCardData(
        model_name=card.name,
        library_name="interp",
        base_model=card.model.name if is_hub_id else None,
        tags=_TAGS,
        eval_results=_results(card),
        **relation,
    )
    body = "\n\n".join((_reads(card, directions, checks), _use(card, source), _measured(card), _limits(), _full(card)))
    return str(ModelCard.from_template(data, template_str=_TEMPLATE, body=body)).encode()


def _results(card: ProbeCard) -> list:
    """The best site of each direction, as the hub lists results."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-classification",
            task_name=_line(card.concept),
            dataset_type="transcripts",
            dataset_name=f"{best.n} transcripts in {best.groups} groups",
            metric_type="roc_auc",
            metric_name=f"AUROC of {best.name} at {best.site}",
            metric_value=round(best.auroc, 4),
        )
        for best in _best(card)
    ]


def _best(card: ProbeCard) -> list[Measure]:
    """Each direction at its best site; one that was not fitted may tell the classes apart in either sense."""
    names = dict.fromkeys(measure.name for measure in card.measures)
    return [
        card.best(name) if name in FITTED else max(card.measured(name), key=lambda measure: abs(measure.auroc - 0.5))
        for name in names
    ]


def _reads(card: ProbeCard, directions: Mapping[str, Direction], checks: Sequence[Mapping[str, Any]]) -> str:
    sites = sorted({direction.site for direction in directions.values()})
    names = dict.fromkeys(direction.name for direction in directions.values())
    width = next(iter(directions.values())).vector.numel()
    lines = [
        f"# {_line(card.name)}: directions in the residual stream of {_line(card.model.name)}",
        f"Concept: {_line(card.concept)}.",
        "## What it reads",
        f"- Model: {_code(card.model.name)}, {card.model.dtype}, weights {_code(card.model.weights)}, tokenizer "
        f"{_code(card.model.tokenizer)}, chat template {_code(card.model.template)}.\n"
        f"- Directions: {', '.join(map(_code, names))}, each of {width} numbers.\n"
        f"- Sites: {', '.join(_code(str(site)) for site in sites)}.\n"
        f"- Position rule: {_code(card.position)}: which tokens of a transcript were read.\n"
        f"- Methods: {', '.join(map(_code, card.recipe.get('methods', ()))) or 'not recorded'}.\n"
        f"- Wiring of the model when it was fitted: {_wiring(checks)}.",
    ]
    return "\n\n".join(lines)


def _wiring(checks: Sequence[Mapping[str, Any]]) -> str:
    if not checks:
        return "not recorded"
    failed = [_line(check["check"]) for check in checks if not check["ok"]]
    named = f" (not: {', '.join(failed)})" if failed else ""
    return f"{len(checks) - len(failed)} of {len(checks)} checks in order{named}"


def _use(card: ProbeCard, source: str) -> str:
    name, model = card.name, card.model.name
    return (
        "## How to load it\n\n"
        f"```bash\ninterp probe pull {source} --model {model}\ninterp trace --model {model} --probe {name}\n```\n\n"
        "```python\nimport interp\n\n"
        f'model = interp.load("{model}")\n'
        f'directions = interp.open_probe(interp.workspace(), "{name}", model, "{_best(card)[0].name}")\n```\n\n'
        "Without the toolkit: `directions.safetensors` holds one float32 vector a key, `NAME@SITE`; offset, scale and "
        "origin are JSON in its header. A score is (the vector at length 1 · the residual stream - offset) / scale."
    )


def _measured(card: ProbeCard) -> str:
    counts = card.classes
    rows = "\n".join(
        f"| {_code(best.name)} | {best.site} | {best.auroc:.3f} | {_span(best.low, best.high)} | "
        f"{_span(best.null_low, best.null_high)} | {_p(best)} |"
        for best in _best(card)
    )
    return (
        "## How well it reads\n\n"
        f"On {counts.positive} positive transcripts in {counts.positive_groups} groups ({_line(counts.positive_rule)}) "
        f"and {counts.negative} negative in {counts.negative_groups} groups ({_line(counts.negative_rule)}). Fitted "
        "directions are measured on groups that they were not fitted on; others saw no transcript, and below 1/2 they "
        "tell the classes apart in the other sense. Each at its best site; the rest is below.\n\n"
        "| direction | site | held-out AUROC | 95 % interval | chance | p |\n|---|---|---|---|---|---|\n" + rows
    )


def _limits() -> str:
    return f"## Known confounds\n\n{_CONFOUNDS}\n\n## Not for use\n\n{_NOT_FOR}"


def _full(card: ProbeCard) -> str:
    """The card's own page, one heading deeper."""
    data = "\n".join(f"- {_line(key)}: {_code(value)}" for key, value in card.data.items())
    versions = ", ".join(f"{key} {value}" for key, value in card.versions.items())
    told = (
        replace(card, concept=_line(card.concept))
        .to_markdown()
        .replace("# Probe", "# The whole card: probe", 1)
        .strip()
    )
    told = re.sub(r"(?m)^#", "##", told)
    told = re.sub(r"`[^`]*`|<(?=[A-Za-z/!])", lambda found: "&lt;" if found[0] == "<" else found[0], told)
    return f"{told}\n\nFingerprints of the activations:\n\n{data}\n\nMade with {_line(versions)}."


def _span(low: float | None, high: float | None) -> str:
    return "undefined" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _p(measure: Measure) -> str:
    return f"<= {measure.floor:.2g}" if measure.p_value <= measure.floor else f"{measure.p_value:.2g}"


def _line(text: str) -> str:
    """Text on one line that stands for itself in Markdown tables and HTML."""
    return re.sub(r"\s+", " ", text).replace("<", "&lt;").replace("|", "\\|").strip()


def _code(text: str) -> str:
    """Text as code on one line."""
    return "`" + text.replace("`", "'").replace("\n", "\\n").replace("|", "\\|") + "`"
