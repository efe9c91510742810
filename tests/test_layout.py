"""The package reads from front to back: a module imports only from those before it, and starts light."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typechecker
from jaxtyping import TypeCheckError

from interp.probes.nulls import aurocs
from interp.stats import Interval
from interp.stats.resampling import expanded

ROOT = Path(__file__).parents[1]
ORDER = [
    "errors",
    "stats",
    "store",
    "sites",
    "transcripts",
    "tokens",
    "directions",
    "edits",
    "probes",
    "organism",
    "models",
    "activations",
    "generation",
    "doctor",
    "traces",
    "emotions",
    "scenarios",
    "behaviour",
    "experiments",
    "plots",
    "event_locked",
    "report",
    "engine",
    "jobs",
    "sharing",
    "line",
    "inspect_provider",
    "lm_eval_provider",
    "named_tasks",
    "cli",
    "testing",
]
HEAVY = {"torch", "transformers", "transformer_lens", "sklearn", "plotly", "scipy", "statsmodels", "ray"}
HEAVY |= {"inspect_ai", "lm_eval"}
ALLOWED_IN = {
    "torch": ORDER[ORDER.index("directions") :],
    "transformer_lens": ["models", "testing"],
    "sklearn": ["stats", "probes"],
    "scipy": ["stats"],
    "statsmodels": ["stats"],
    "plotly": ["plots", "report"],
    "jinja2": ["report"],
    "pydantic": ["engine", "jobs"],
    "typer": ["cli"],
    "rich": ["cli"],
    "inspect_ai": ["inspect_provider"],
    "lm_eval": ["lm_eval_provider"],
    "huggingface_hub": ["models", "sharing"],
}


def imported(path: Path) -> set[str]:
    """Dotted names imported anywhere in the file, function bodies included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def faults(path: Path, names: set[str]) -> list[str]:
    unit = path.relative_to(ROOT / "interp").parts[0].removesuffix(".py")
    found = []
    for package, _, rest in (name.partition(".") for name in names):
        if package == "interp" and rest and rest.split(".")[0] in ORDER:
            later = ORDER.index(rest.split(".")[0]) > ORDER.index(unit)
            found += [f"{unit} reads {rest} before its turn"] if later else []
        elif unit not in ALLOWED_IN.get(package, ORDER):
            found.append(f"{package} is not for {unit}")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "interp").glob("**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_reading_order(path: Path) -> None:
    if path.parent != ROOT / "interp" or not path.name.startswith("_"):
        assert faults(path, imported(path)) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tokens", "interp.models.load"),
        ("plots", "torchvision.x"),
        ("edits", "transformer_lens.hook_points"),
        ("traces", "sklearn.metrics.roc_auc_score"),
        ("experiments", "typer.echo"),
    ],
)
def test_a_planted_violation_is_found(module: str, name: str) -> None:
    """Control of the test above; the second case is no violation."""
    found = faults(ROOT / "interp" / f"{module}.py", {name})
    assert bool(found) == (module != "plots")


def test_every_module_has_a_place_in_the_order() -> None:
    units = {path.name.removesuffix(".py") for path in (ROOT / "interp").iterdir() if not path.name.startswith("_")}
    assert units <= set(ORDER)


@pytest.mark.parametrize("code", ["import interp", "import interp.cli", "import interp.organism"])
def test_nothing_heavy_is_loaded_at_the_start(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}


def _cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_there_in_a_quarter_of_a_second() -> None:
    """CPU time, the best of five: wall time on a busy machine says nothing about the program.

    A core that is shared or slow does less in a second, so the quarter is one of a core that imports typer in 0.11 s,
    which is most of what help costs: where that takes longer, help may take as much longer.
    """
    pairs = [(_cpu_seconds("-m", "interp", "--help"), _cpu_seconds("-c", "import typer")) for _ in range(5)]
    spent, typer = map(min, zip(*pairs, strict=True))
    assert spent <= 0.25 * max(1, typer / 0.11)


def test_every_command_is_there_and_is_loaded_only_when_it_is_called() -> None:
    from interp.cli import COMMANDS, main

    files = {path.stem for path in (ROOT / "interp" / "cli").glob("*.py")} - {"__init__", "options"}
    assert {name.replace("-", "_") for name in COMMANDS} == files
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
    say = "import sys, interp.cli; print(*[name for name in sys.modules if name.startswith('interp.cli.')])"
    found = subprocess.run([sys.executable, "-c", say], cwd=ROOT, capture_output=True, check=True)
    assert found.stdout.strip() == b""


def test_artifact_folders_hold_no_code() -> None:
    assert not [*ROOT.glob("probes/**/*.py"), *ROOT.glob("activations/**/*.py")]


def test_no_module_is_longer_than_400_lines() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for p in (ROOT / "interp").glob("**/*.py")
        if (n := len(p.read_text().splitlines())) > 400
    }
    assert long == {}


def test_every_public_name_is_where_the_package_says() -> None:
    import interp

    for name in interp.__all__:
        assert getattr(interp, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        interp.nothing  # noqa: B018 - the look-up is the test


def test_annotations_are_checked_in_tests_with_shapes_and_without() -> None:
    with pytest.raises(TypeCheckError):
        aurocs(np.zeros((2, 3)), np.zeros((2, 4), bool))
    for wrong in (lambda: Interval("0.1", 0.2, 0.95, "none"), lambda: expanded(0.95, "ten")):  # a class, a function
        with pytest.raises(TypeCheckError):
            wrong()


def test_of_many_calls_the_first_are_checked_and_then_one_in_so_many() -> None:
    def raised() -> bool:
        try:
            aurocs(np.zeros((2, 3)), np.zeros((2, 4), bool))
        except TypeCheckError:
            return True
        except ValueError:
            return False
        raise AssertionError("neither a check nor numpy minded")

    found = [raised() for _ in range(3 * typechecker.ALL_OF_THE_FIRST)]
    assert all(found[: typechecker.ALL_OF_THE_FIRST])
    later = found[typechecker.ALL_OF_THE_FIRST :]
    assert sum(later) == len(later) // typechecker.THEN_ONE_IN
