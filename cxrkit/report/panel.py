"""What is printed when a run has been evaluated: its AUCs, what they may stand beside, and the command that shows it.

Built from the scores alone, by the rules of the tables (comparability.py): what the panel promises, `report` keeps.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from cxrkit.base.contracts import Metric
from cxrkit.base.errors import UserError, shown
from cxrkit.base.plain_text import spelled
from cxrkit.base.words import count
from cxrkit.datasets.splits import RESAMPLES, resample
from cxrkit.report.evidence.cells import APPROXIMATE_NOTE, CONSTANT_NOTE, is_approximate, metric_cell
from cxrkit.report.evidence.comparability import Verdict, judge
from cxrkit.report.evidence.metric_names import metric_name
from cxrkit.report.evidence.reference import known_splits
from cxrkit.report.evidence.runs import AUC, Run, is_probe
from cxrkit.report.evidence.undefined import defined_names, undefined_words
from cxrkit.report.literature.published import table5
from cxrkit.runs.folder import RunFolder
from cxrkit.runs.imported import read_imported
from cxrkit.runs.scores import Scores, SubsetScores
from cxrkit.statistics.intervals import APPROXIMATE

_REASONS = 3  # of those that keep a run out; the report names all
_WIDTH = 80  # of the lines above and below, in a wider console
_GAP = 2  # columns between two labels side by side
_OFFICIAL = "official"
_BEYOND = "Beside the AUCs:"


@dataclass(frozen=True)
class Panel:
    """A run's scores for `rich.console.Console.print`, as wide as the console and in the signs that it can show."""

    scores: Scores
    """The content of its scores.json."""

    verdict: Verdict | None
    """What it may stand beside; None where it has no test scores."""

    missing: tuple[int, ...] = ()
    """The resampling folds that its model has no scores of yet, where it is of one of them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        def say(text: str) -> str:
            return spelled(shown(text), options.encoding)

        sign = "-" if options.ascii_only else "─"
        title = Text(say(_title(self.scores)), style="bold")
        yield Constrain(Rule(title, characters=sign, style="dim", align="left"), _WIDTH)
        part = self.scores.subsets.get("test") or next(iter(self.scores.subsets.values()))
        for subset in (part, *(other for other in self.scores.subsets.values() if other is not part)):
            yield Text(say(_first_line(subset)), style="bold" if subset is part else "")
        yield Text()
        findings = _findings(self.scores, part)
        measures, by_label = _measures(self.scores, part)
        for heading, entries in (("", findings), (_BEYOND * bool(findings), measures)):
            if entries:
                yield from [Text(heading)] * bool(heading)
                yield _side_by_side([(say(name), say(value)) for name, value in entries], options.max_width)
                yield Text()
        if by_label:
            yield Text(say(f"Label by label, in the report: {', '.join(by_label)}"))
            yield Text()
        for note in (*_notes(self.scores, part), *_beside(self.scores, self.verdict), *_folds(self.missing)):
            yield Text(say(note))
        yield Constrain(Rule(characters=sign, style="dim"), _WIDTH)


def tell(run: RunFolder, scores: Scores, console: Console) -> None:
    """Print the panel of a run that was just evaluated, the command that comes next, and where its scores are."""
    missing = missing_folds(run, scores)
    console.print(Panel(scores, judged(run, scores), missing))
    lines = [f"next: {next_command(run, scores)}", f"scores in {run.scores}"]
    if _lacks_auc(scores):
        lines.insert(
            0, f"with the AUCs of the paper: cxrkit evaluate {_quoted(run.path)} --evaluator auc,{scores.evaluator}"
        )
    if missing and run.config.exists() and not scores.labels.metadata:  # a probe's next fold starts from another run
        lines.insert(0, f"fold {missing[0]}: cxrkit train --recipe {_quoted(run.config)} --fold {missing[0]}")
    for line in lines:
        console.print(Text(shown(line)), soft_wrap=True)  # not folded: commands and paths are there to be copied


def _lacks_auc(scores: Scores) -> bool:
    """Whether findings were scored by other evaluators alone: these scores took the place of those with AUCs."""
    if scores.labels.metadata or "auc" in scores.evaluators:
        return False
    return all(AUC not in part.names for part in scores.subsets.values())


def judged(run: RunFolder, scores: Scores) -> Verdict | None:
    """Return what the run's test scores may stand beside; None where there are none."""
    if "test" not in scores.subsets:
        return None
    return judge([Run(run.path, scores.name, scores)], known_splits().keys(), table5().label_release)[0]


def next_command(run: RunFolder, scores: Scores) -> str:
    """Return the command that shows the run among others, or that makes the test scores which it lacks."""
    if "test" not in scores.subsets and run.imported.exists():
        return _import_of_test(run, scores)
    if "test" not in scores.subsets:
        return f"cxrkit predict {_quoted(run.path)} --subset test && cxrkit evaluate {_quoted(run.path)}"
    if scores.labels.metadata:
        table = " --probes"
    elif scores.origin.split == _OFFICIAL:
        table = " --official-split"
    else:  # a split of its own stands in no table of the paper: its numbers are shown apart
        table = "" if scores.origin.split in known_splits() else " --apart"
    verdict = None if scores.labels.metadata else judged(run, scores)
    if verdict is not None and not verdict.comparable and "--apart" not in table:
        table += " --apart"  # without it the table has others' numbers and not this run's
    return f"cxrkit report{table} --runs {_quoted(run.path.parent.parent)}"


def _import_of_test(run: RunFolder, scores: Scores) -> str:
    """Return the command that adds test predictions to an import of validation predictions alone."""
    try:
        imported = read_imported(run.imported)
    except UserError:
        return "import the predictions again"
    labels = imported.truth
    words = ["cxrkit import TEST.csv --name", _quoted(scores.name), "--subset test"]
    if imported.split != _OFFICIAL:
        words.append(f"--split {_quoted(imported.split)}")
    source = "--raw FOLDER" if labels is None else f"--{'data' if labels.is_dir() else 'raw'} {_quoted(labels)}"
    words += [source, *["--about FILE.toml"] * bool(scores.seed)]
    return " ".join([*words, "--runs", _quoted(run.path.parent.parent)])


def missing_folds(run: RunFolder, scores: Scores) -> tuple[int, ...]:
    """Return the resampling folds of which the run's model has no scores beside it, seed by seed; () elsewhere."""
    split = scores.origin.split
    if split not in known_splits() or split == _OFFICIAL:
        return ()
    behind = run.path.name.removeprefix(split)  # "-seed-3"
    beside = ((fold, run.path.with_name(f"{resample(fold)}{behind}")) for fold in range(1, RESAMPLES + 1))
    return tuple(fold for fold, folder in beside if not RunFolder(folder).scores.exists())


def _quoted(path: object) -> str:
    return shlex.quote(shown(path))


def _title(scores: Scores) -> str:
    seed = f", seed {scores.seed}" if scores.seed else ""
    return f"{scores.name} on split {scores.origin.split}{seed}"


# Numbers


def _first_line(part: SubsetScores) -> str:
    """Return the mean of a subset, where there is one, and its images."""
    of = f"{part.images:,} images of {part.patients:,} patients"
    if not part.complete:
        of = f"{part.images:,} of {count(part.subset_images, 'image')}, of {count(part.patients, 'patient')}"
    mean = part.metric(AUC)
    if mean is None:
        return f"{part.subset}: {of}"
    return f"{'Mean AUC' if _of_several(mean) else 'AUC'} on {part.subset}: {_auc(mean)}, {of}"


def _of_several(mean: Metric) -> bool:
    return (mean.labels or 0) > 1


def _findings(scores: Scores, part: SubsetScores) -> list[tuple[str, str]]:
    """Return the AUC of each label that has one."""
    labels = scores.labels
    aucs = {label: part.metric(AUC, label) for label in (*labels.averaged, *labels.beside)}
    return [(labels.heading(label), _auc(metric)) for label, metric in aucs.items() if metric is not None]


def _measures(scores: Scores, part: SubsetScores) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what else was found of all labels, or of the only one, and the names of what is of single labels alone."""
    labels = scores.labels
    found, by_label = [], []
    for name in defined_names(part):
        if name == AUC:
            continue
        metric = part.metric(name, labels.labels[0] if len(labels) == 1 else None) or part.metric(name)
        if metric is None:
            by_label.append(metric_name(name))
        else:
            found.append((metric_name(name), _measure(metric, labels.unit)))
    return found, by_label


def _auc(metric: Metric) -> str:
    return metric_cell(metric, uncertainty=True).text


def _measure(metric: Metric, unit: str) -> str:
    if metric.value is None:
        return f"n/a ({metric.reason})" if metric.reason else "n/a"
    digits = 2 if unit else 3
    text = f"{metric.value:.{digits}f}"
    if metric.lower is not None and metric.upper is not None:
        rough = "~" * (metric.mark == APPROXIMATE)
        text += f" {rough}[{metric.lower:.{digits}f}, {metric.upper:.{digits}f}]"
    return f"{text} {unit}".rstrip()


def _side_by_side(entries: Sequence[tuple[str, str]], width: int) -> Grid:
    """Return the entries in two columns, read downwards, or in one where two do not fit."""
    name_width, value_width = (max(len(entry[place]) for entry in entries) for place in (0, 1))
    two = len(entries) > 3 and 2 * (name_width + value_width + _GAP) + _GAP <= width
    rows = -(-len(entries) // 2) if two else len(entries)
    grid = Grid.grid(padding=(0, _GAP, 0, 0))
    for _ in range(2 if two else 1):
        grid.add_column(width=name_width)
        grid.add_column(max_width=value_width)  # folded where one does not fit
    for row in range(rows):
        grid.add_row(*(Text(text) for entry in entries[row::rows] for text in entry))
    return grid


def _notes(scores: Scores, part: SubsetScores) -> list[str]:
    """Return how the intervals were made, and what the marks stand for."""
    means = [mean for subset in scores.subsets.values() if (mean := subset.metric(AUC)) is not None]
    metrics = [*(metric for metric in part.overall if metric.name == AUC), *means]
    made = dict.fromkeys(metric.interval.partition(",")[0] for metric in part.overall if metric.lower is not None)
    notes = []
    mean = part.metric(AUC)
    if mean is not None and _of_several(mean):
        beside = [scores.labels.heading(label) for label in scores.labels.beside if part.metric(AUC, label)]
        notes.append(f"Mean: over {mean.labels} labels" + f", without {', '.join(beside)}" * bool(beside))
        if mean.lower is None and mean.interval and mean.interval != mean.reason:
            notes.append(f"No interval of the mean: {mean.interval}")
    notes += [f"Not defined: {words}" for words in undefined_words(part)]
    notes += [f"Intervals: {'; '.join(how for how in made if how)}"] * any(made)
    notes += [APPROXIMATE_NOTE] * any(map(is_approximate, metrics))
    return notes + [CONSTANT_NOTE] * any(metric.constant for metric in metrics)


# What it may stand beside


def _beside(scores: Scores, verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return ["Beside nothing yet: it has no test scores"]
    if not verdict.comparable:
        told = verdict.reasons[:_REASONS]
        more = len(verdict.reasons) - len(told)
        what = "Not beside published results"
        if verdict.elsewhere:
            what = "May stand beside runs on the same data, not beside published results"
        return [f"{what}: {'; '.join(told)}" + f"; and {more} more" * bool(more)]
    split = scores.origin.split
    if is_probe(verdict.run):
        what = "the paper's probes (section 3)"
    elif split == _OFFICIAL:
        what = "published results on the official split (the paper's Table 5)"
    else:
        what = "the paper's means over five resampling folds (Table 3)"
    lines = [f"May stand beside {what}"]
    if verdict.doubts:
        lines.append(f"Marked there, since nobody has checked: {'; '.join(verdict.doubts)}")
    return lines


def _folds(missing: Sequence[int]) -> list[str]:
    if not missing:
        return []
    return [f"Not here yet: fold{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"]
