"""Reports: scores and published results in, tables out.

`official`, `resampled` and `probes` build a Report from a folder of runs; `to_rich`, `render` and `write` show it;
`read_report_json` reads one that was written.
"""

from cxrkit.report.official import official
from cxrkit.report.probes import probes
from cxrkit.report.rendering.document import read_report_json
from cxrkit.report.rendering.formats import FORMATS, format_of, render, write
from cxrkit.report.rendering.terminal import to_rich
from cxrkit.report.resampled import resampled
from cxrkit.report.tables import Report

__all__ = [
    "FORMATS", "Report", "format_of", "official", "probes", "read_report_json", "render", "resampled", "to_rich",
    "write",
]  # fmt: skip
