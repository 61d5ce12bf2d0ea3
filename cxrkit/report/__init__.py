"""Reports: scores and published results in, tables out.

`official`, `resampled` and `probes` build a Report from a folder of runs; `to_rich`, `render` and `write` show it;
`read_report_json` reads one that was written.
"""

from cxrkit.report.document.tables import Report
from cxrkit.report.paper.official import official
from cxrkit.report.paper.probes import probes
from cxrkit.report.paper.resampled import resampled
from cxrkit.report.rendering.document import read_report_json
from cxrkit.report.rendering.formats import FORMATS, format_of, render, write
from cxrkit.report.rendering.terminal import to_rich

__all__ = [
    "FORMATS", "Report", "format_of", "official", "probes", "read_report_json", "render", "resampled", "to_rich",
    "write",
]  # fmt: skip
