"""Fixtures that several test files share: one tiny model of each family, built once."""

import gc
import os
from collections.abc import Iterator
from functools import wraps

import jaxtyping
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import typechecker  # noqa: E402

typechecker.lighten()

import interp.doctor  # noqa: E402
from interp.models import Model  # noqa: E402
from interp.testing import FAMILIES, tiny_model  # noqa: E402

torch.set_num_threads(1)
FIT_MANY = {"test_batch", "test_cli_probe", "test_docs", "test_evidence", "test_jobs"}


def pytest_runtest_setup() -> None:
    """Annotations are checked for each test anew."""
    typechecker.begin_test()


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """What is there when a file of tests begins stays: statsmodels collects garbage at every correction of p-values."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes are not checked: for simulations of hundreds of data sets, whose functions other tests call as well."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def the_embedded_model_is_examined_once() -> Iterator[None]:
    """Every command examines the model that it loads; of the same weights and template the answer is kept."""
    examine, kept = interp.doctor.examine, {}

    @wraps(examine)
    def once(model: Model, job: interp.doctor.Job | None = None) -> list[interp.doctor.Check]:
        if model.name != "organism" or job is not None:
            return examine(model, job)
        if model.identity not in kept:
            kept[model.identity] = examine(model)
        return kept[model.identity]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.doctor.examine", once)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A tiny model by family name."""
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_model(root / family, family) for family in FAMILIES}


@pytest.fixture(params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest, tiny: dict[str, Model]) -> Model:
    """Each tiny model in turn."""
    return tiny[request.param]


@pytest.fixture(scope="module", autouse=True)
def fewer_fits_of_text_baselines(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files that fit many probes choose baselines from a smaller grid; test_baselines.py tests the baselines."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] in FIT_MANY:
            patch.setattr("interp.probes.surface.PENALTIES", (0.01, 1.0))
            patch.setattr("interp.probes.surface.WIDTHS", (None,))
        yield


@pytest.fixture
def llama(tiny: dict[str, Model]) -> Model:
    """The tiny Llama."""
    return tiny["llama"]
