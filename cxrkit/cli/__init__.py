"""The command line: parses, calls, prints. Nothing heavy is imported before a command needs it.

`app` is the frame (consoles, exit codes); the commands register with it when their modules are imported, in the order
in which `cxrkit --help` lists them.
"""

from cxrkit.cli import (  # isort: skip
    download,
    data,
    stats,
    training,
    plot,
    reproduce,
    results,
    report,
    compare,
    explain,
    audit,
    export,
    imports,
    splits,
    literature,
    machine,
)
from cxrkit.cli.app import main

__all__ = [
    "audit",
    "compare",
    "data",
    "download",
    "explain",
    "export",
    "imports",
    "literature",
    "machine",
    "main",
    "plot",
    "report",
    "reproduce",
    "results",
    "splits",
    "stats",
    "training",
]
