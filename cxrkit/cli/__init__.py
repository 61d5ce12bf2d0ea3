"""The command line: parses, calls, prints. Nothing heavy is imported before a command needs it.

`app` is the frame (consoles, exit codes); the commands register with it when their modules are imported, in the order
in which `cxrkit --help` lists them.
"""

from cxrkit.cli import (  # isort: skip
    data,
    stats,
    training,
    reproduce,
    results,
    report,
    compare,
    explain,
    export,
    imports,
    splits,
    literature,
    machine,
)
from cxrkit.cli.app import main

__all__ = [
    "compare",
    "data",
    "explain",
    "export",
    "imports",
    "literature",
    "machine",
    "main",
    "report",
    "reproduce",
    "results",
    "splits",
    "stats",
    "training",
]
