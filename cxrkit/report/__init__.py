"""Reports: scores and published results in, tables out.

`official`, `resampled` and `probes` build a Report from a folder of runs; `to_rich`, `render` and `write` show it.
"""

from cxrkit.report.official import official
from cxrkit.report.probes import probes
from cxrkit.report.rendering.terminal import to_rich
from cxrkit.report.rendering.text import FORMATS, format_of, render, write
from cxrkit.report.resampled import resampled
from cxrkit.report.tables import Report

__all__ = ["FORMATS", "Report", "format_of", "official", "probes", "render", "resampled", "to_rich", "write"]
