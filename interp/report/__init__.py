"""From the files of a run folder to one page that opens offline."""

from interp.report.compare import write_comparison
from interp.report.locked import write_event_locked
from interp.report.page import write_report
from interp.report.viewer import named_events, write_traces

__all__ = ["named_events", "write_comparison", "write_event_locked", "write_report", "write_traces"]
