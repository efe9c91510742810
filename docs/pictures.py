"""The README's picture, from the files of a finished demo: `python docs/pictures.py [runs/demo]`.

Needs the extra `notebook` (kaleido) and Chromium or Chrome.
"""

import sys
from pathlib import Path

from interp.plots import trace_figure
from interp.store import read_json
from interp.traces import TokenTrace

HERE = Path(__file__).parent


def main(run: Path) -> None:
    """Write trace.png beside this file."""
    traces = [TokenTrace.from_dict(row) for row in read_json(run / "traces.json")["traces"]]
    figure = trace_figure(traces, [traces[0].directions[0]])
    figure.write_image(HERE / "trace.png", width=1100, height=620, scale=1.5)


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["runs/demo"]))
