"""The notebooks as they are kept: run in order, read on the web without running, and copied to a user whole.

That they run is tested by `pytest --nbmake notebooks` (`make test`).
"""

import base64
import re
from pathlib import Path

import nbformat
import pytest

from interp.cli import main
from interp.store.notebooks import copy_notebooks

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = [path.name for path in sorted(FOLDER.glob("*.ipynb"))]


def cells(name):
    return [cell for cell in nbformat.read(FOLDER / name, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_six_in_reading_order():
    assert [name[:2] for name in NAMES] == [f"{n:02}" for n in range(1, 7)]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_as_it_ran_from_top_to_bottom_with_nothing_wrong(name):
    ran = [cell.execution_count for cell in cells(name)]
    assert ran == list(range(1, len(ran) + 1))
    outputs = [output for cell in cells(name) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not re.search(r"/tmp/|/work/|/root/|/home/", str(outputs))


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_kept_as_a_picture_too(name):
    """An interactive figure shows nothing where no script runs, as on the web pages of a repository."""
    shown = [
        o.data for cell in cells(name) for o in cell.outputs if "application/vnd.plotly.v1+json" in o.get("data", {})
    ]
    assert shown
    for data in shown:
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_asks_a_question_in_its_title_and_names_the_next_thing_to_read(name):
    told = [c.source for c in nbformat.read(FOLDER / name, as_version=4).cells if c.cell_type == "markdown"]
    assert re.match(r"# .+\?", told[0])
    assert re.search(r"docs/\w+|README", told[-1])


def test_copies_are_whole_and_overwrite_nothing(tmp_path, capsys):
    copied = copy_notebooks(tmp_path / "new" / "mine")
    assert [path.name for path in copied] == NAMES
    assert all(path.read_bytes() == (FOLDER / path.name).read_bytes() for path in copied)
    copied[0].write_text("my work")
    copied[1].unlink()
    with pytest.raises(SystemExit) as stop:
        main(["notebook", str(tmp_path / "new" / "mine")])
    assert stop.value.code == 1
    assert NAMES[0] in capsys.readouterr().err
    assert copied[0].read_text() == "my work" and not copied[1].exists()


def test_the_command_says_where_they_are(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["notebook", str(tmp_path / "mine")])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES) and "jupyter lab" in out
