"""From the files of a run folder to one page that opens offline."""

from interp.report.page import write_report, write_traces

__all__ = ["write_report", "write_traces"]
