"""`cxrkit audit RUN`: what a trained network reads beside the findings, as one document, kept in the run's folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cxrkit.audit import asking, drains, probing, tables
from cxrkit.audit.asking import Asked
from cxrkit.audit.drain_tables import drain_tables
from cxrkit.audit.request import PERMUTATIONS, AuditRequest
from cxrkit.audit.results import results
from cxrkit.audit.with_drains import with_drains
from cxrkit.base.errors import UserError
from cxrkit.base.words import count as counted
from cxrkit.report.document.figures import Figure
from cxrkit.report.document.tables import Report, Table
from cxrkit.report.evidence.opened import Evidence, Opened
from cxrkit.report.evidence.runs import Run, find_runs, is_probe
from cxrkit.report.rendering.kept import keep_document
from cxrkit.runs.folder import RunFolder

KEY = "audit"


def audit(request: AuditRequest, console: Console) -> Report:
    """Return the audit of a run, and keep it in the run's folder. console: for progress and notes.

    The run must be evaluated. Of predictions that were imported only the drains can be asked. Raises UserError.
    """
    if request.permutations < 1:
        raise UserError(f"--permutations {request.permutations}: expected at least 1",
                        remedy=f"{PERMUTATIONS} is the default")  # fmt: skip
    run = _evaluated(request.run)
    evidence = Opened(request.data).evidence(run)
    list_of_drains = None
    if request.drains is not None:  # a wrong file should be heard before the work
        list_of_drains = drains.read(request.drains, evidence.images["image_id"])
    found: list[Table] = []
    figures: list[Figure] = []
    notes: list[str] = []
    if RunFolder(run.folder).imported.exists():
        if list_of_drains is None:
            raise UserError(
                f"{run.folder}: holds predictions that were imported, and no network that could be asked",
                remedy="give --drains FILE, which needs predictions alone",
            )
        notes.append("Predictions from elsewhere: there is no network to be asked about features, metadata and border")
    else:
        network = asking.open_network(RunFolder(run.folder), request.data, request.device, console)
        try:
            found, figures, notes = _of_network(network, request, evidence, console)
        finally:
            network.inputs.close()
    if list_of_drains is not None:
        found += drain_tables(with_drains(list_of_drains, evidence))
    else:
        notes.append("Films with a chest drain: give a list of them with --drains FILE (docs/audit.md)")
    report = Report(
        title=f"What {run.name} reads beside the findings, {run.origin.dataset}, split {run.split}",
        tables=tuple(found),
        notes=(*notes, *_of_run(run, evidence)),
        figures=tuple(figures),
        key=KEY,
    )
    keep_document(RunFolder(run.folder), report, run.scores.checkpoint_sha256)
    return report


def _evaluated(folder: Path) -> Run:
    runs = find_runs(folder).runs
    if len(runs) != 1 or runs[0].folder.resolve() != folder.resolve():
        raise UserError(
            f"{folder}: holds {counted(len(runs), 'run')}, and one is audited at a time",
            remedy=f"name one of them, such as {runs[0].folder}",
        )
    if is_probe(runs[0]):
        raise UserError(f"{folder}: is a probe of another run's features", remedy="audit the run that it starts from")
    return runs[0]


def _of_network(
    network: Asked, request: AuditRequest, evidence: Evidence, console: Console
) -> tuple[list[Table], list[Figure], list[str]]:
    """Return the tables, figures and notes of what a network is asked."""
    spec = network.spec
    answers = asking.ask(network, request.border, request.permutations, console)
    found = results(answers, evidence, network.inputs.labels)
    made: list[Table] = []
    figures: list[Figure] = []
    notes: list[str] = []
    if spec.image and callable(getattr(network.model, "features", None)):
        probed = probing.probe(network, request.fit, console)
        made.append(tables.features_table(probed, request.fit, meta=spec.meta))
    elif spec.image:
        notes.append(f"{spec.name} has no `features` to be probed for age, sex and view")
    if spec.meta:
        made += tables.metadata_tables(found, request.permutations)
    else:
        notes.append("The network is given no age, sex or view; what these say alone: `cxrkit train --model mlp-meta`")
    if answers.border:
        sides = spec.resize, spec.input_size
        made.append(tables.border_table(found, request.border, answers.border, sides, meta=spec.meta))
        figures.append(tables.border_figure(found))
    return made, figures, notes


def _of_run(run: Run, evidence: Evidence) -> list[str]:
    """Say on what all of this was found."""
    count = len(evidence.images)
    part = "" if run.test.complete else f" of {run.test.subset_images:,} (partial)"
    patients = evidence.images["patient_id"].n_unique()
    return [
        f"On {count:,}{part} test images of {counted(patients, 'patient')}; epoch {run.scores.epoch}. Variances are "
        "over patients (Obuchowski 1997)"
    ]
