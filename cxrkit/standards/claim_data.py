"""Answers to CLAIM's items 1 to 21: title to test data."""

from __future__ import annotations

from collections.abc import Callable

from cxrkit.report.evidence.views_used import looked_at, views_of
from cxrkit.standards.facts import FILES, RunFacts
from cxrkit.standards.words import (
    SUBSET_WORDS,
    Said,
    author,
    count,
    data_name,
    kind,
    listed,
    missing_words,
    partition_words,
    sentences,
    split_words,
    task,
)

SCORES, CONFIG, SPLIT, PREPARED = (FILES[name] for name in ("run", "config", "partitions", "description"))
LABELS = "the labels that it was scored with"


def published(facts: RunFacts) -> tuple[str, ...]:
    """Return where what is said of the data set is written."""
    return (facts.dataset.source,) if facts.dataset else ()


def title(facts: RunFacts) -> Said:
    """Item 1."""
    model = kind(facts)
    text = f"The model is {model}, for {task(facts)}" if model else f"The task is {task(facts)}"
    return Said(sentences([text]), "name the kind of AI in title or abstract", (CONFIG if model else SCORES,))


def design(facts: RunFacts) -> Said:
    """Item 5."""
    if facts.dataset is None:
        return author("say whether the images were collected for this study or before it")
    return Said(sentences([facts.dataset.collected]), "", published(facts))


def data_sources(facts: RunFacts) -> Said:
    """Item 7."""
    origin = facts.run.origin
    labels = f"labels of release {origin.label_release}" if origin.label_release else "labels of an unnamed release"
    digest = f" (SHA-256 {origin.labels_digest[:12]}...)" if origin.labels_digest else ""
    where = f", {facts.dataset.homepage}" if facts.dataset and facts.dataset.homepage else ""
    text = [f"{data_name(facts)}{where}", f"{labels[0].upper()}{labels[1:]}{digest}"]
    if facts.dataset and facts.dataset.citation:
        text.append(f"Cite {facts.dataset.citation}")
    hint = "" if facts.dataset else "describe the data set: hospitals, countries, dates, where it can be had"
    return Said(sentences(text), hint, (SCORES, *published(facts)))


def eligibility(facts: RunFacts) -> Said:
    """Item 8."""
    left_out = missing_words(facts)
    if facts.dataset is None:
        return Said(sentences([left_out]), "give the criteria of the data set", (PREPARED,) if left_out else ())
    text = sentences([facts.dataset.selected, left_out])
    return Said(text, "", (*published(facts), *[PREPARED] * bool(left_out)))


def preprocessing(facts: RunFacts) -> Said:
    """Item 9."""
    spec = facts.spec
    if spec is None:
        return author("describe how images and metadata were brought to the model")
    text, sources = [], [CONFIG]
    if not spec.pixels:
        text.append("No image is used: the model is given age, sex and view position")
    about = facts.description
    if about is not None and about.levels and spec.pixels:
        quality = f" of quality {about.quality}" if about.quality else ""
        levels = listed(str(level) for level in about.levels)
        text.append(f"Images of {about.image_size} pixels were stored at {levels} pixels ({about.codec}{quality})")
        sources.append(PREPARED)
    if spec.image:
        text.append(
            f"Validation and test images are scaled to {spec.resize} pixels along each side and cropped at the centre "
            f"to {spec.input_size}; gray levels are scaled to [0, 1] and normalised with mean {_numbers(spec.mean)} "
            f"and standard deviation {_numbers(spec.std)}"
        )
        if (views := views_of(facts.run, facts.config)) != "none":
            text.append(f"The scores are the mean probability over several views: {looked_at(spec, views)}")
    if spec.meta:
        text.append("Age is scaled from the range of the training ages to [0, 1]; sex and view are 0 or 1")
    return Said(sentences(text), "", tuple(sources))


def _numbers(values: tuple[float, ...]) -> str:
    return listed(f"{value:g}" for value in values)


def subsets(facts: RunFacts) -> Said:
    """Item 10."""
    if facts.config is None:
        test = facts.run.test
        part = "the whole test subset" if test.complete else f"{test.images:,} of {test.subset_images:,} test images"
        return Said(f"Scores are there for {part}.", "say how other data were selected", (SCORES,))
    if limit := facts.config.run.limit:
        return Said(f"At most {count(limit, 'image')} of each partition were used (--limit {limit}).", "", (CONFIG,))
    if facts.complete:
        return Said("None: the whole partitions were used.", "", (SPLIT, SCORES))
    return Said("Only the images that were prepared were used: see items 19 and 35.", "", (SPLIT, SCORES))


def deidentification(facts: RunFacts) -> Said:
    """Item 11."""
    if facts.dataset is None:
        return author("say how the data were de-identified, and by whom")
    return Said(sentences([facts.dataset.deidentified]), "", published(facts))


def missing_data(facts: RunFacts) -> Said:
    """Item 12."""
    text = []
    for partition in facts.partitions_used:
        if partition.cases is not None and partition.used:
            gaps = listed(f"{name} of {count(number, 'image')}" for name, number in partition.cases.unknown.items())
            text.append(f"{SUBSET_WORDS[partition.subset].capitalize()}: not known: {gaps}" if gaps else "")
    if not text:
        return author("say what was missing, and how that was handled")
    some_unknown = any(text)
    text.append(
        "Labels that are not known are left out of loss and metrics"
        if some_unknown
        else f"Age, sex, view and all labels are known of every image that was {'used' if facts.config else 'scored'}"
    )
    if some_unknown and facts.spec is not None and facts.spec.meta:
        text.append("An age, sex or view that is not known is given to the model as 0.5, half way between the values")
    hint = "say how your model was given what is not known" if some_unknown and facts.spec is None else ""
    return Said(sentences([*text, missing_words(facts)]), hint, (SPLIT, LABELS))


def acquisition(facts: RunFacts) -> Said:
    """Item 13."""
    if facts.dataset is None:
        return author("describe devices, projections and settings")
    return Said(sentences([facts.dataset.acquired]), "", published(facts))


def reference_standard(facts: RunFacts) -> Said:
    """Item 14."""
    if facts.labels.metadata:
        names = listed(dict.fromkeys(column for column, *_ in facts.labels.metadata.values()))
        return Said(f"What is predicted is the data set's own metadata: {names}.", "", (SCORES,))
    if facts.published_labels is None:
        return author("say how the labels were obtained")
    return Said(sentences([facts.published_labels.reference]), "", published(facts))


def annotation_source(facts: RunFacts) -> Said:
    """Item 16."""
    said = reference_standard(facts)
    return Said("See item 14.", "", said.sources) if said.text else author("say who annotated, with what experience")


def test_annotation(facts: RunFacts) -> Said:
    """Item 17."""
    origin = facts.run.origin
    if facts.config is None or origin.basis.labels != "checked":
        return author("say how the test set was annotated, and whether otherwise than the training set")
    text = f"One table of labels (release {origin.label_release}) serves all partitions: see item 14."
    return Said(text, "", (SCORES,))


def variability(facts: RunFacts) -> Said:
    """Item 18."""
    known = facts.published_labels.variability if facts.published_labels else ""
    hint = "" if facts.dataset and not facts.dataset.real else "cite studies of the labels' reliability, if any"
    return Said(sentences([known]), hint, published(facts) if known else ())


def assignment(facts: RunFacts) -> Said:
    """Item 19."""
    origin = facts.run.origin
    how = split_words(facts)
    text = [how or f"Split {origin.split}"]
    sources = [SCORES]
    if facts.partitions_used:
        text.append(f"Sizes: {'; '.join(map(partition_words, facts.partitions_used))}")
        sources = [SPLIT, SCORES]
    if origin.split_digest:
        text.append(f"SHA-256 of the assignment: {origin.split_digest[:12]}...")
    if origin.basis.training == "declared":
        text.append(f"The training images ({origin.train_images:,}) are declared by whoever imported the predictions")
    known = how and origin.basis.training == "checked"
    return Said(sentences(text), "" if known else "say how images were assigned to partitions", tuple(sources))


def disjoint(facts: RunFacts) -> Said:
    """Item 20."""
    basis = facts.run.origin.basis.training
    if basis == "unknown":
        return author("state that no test patient was trained on; what the model was trained on is not known here")
    text, sources = [], [SCORES]
    if facts.patients_shared == 0 and facts.config is not None:
        text.append("Patients: no patient has images in two partitions (counted)")
        sources.insert(0, SPLIT)
    if facts.run.test.leakage_checked:
        how = "declared " * (basis == "declared")
        text.append(f"The test images and their patients were compared with the {how}training images: none is shared")
    if not text:
        return author("state the level: patient, study or image")
    return Said(sentences(text), "", tuple(sources))


def sample_size(facts: RunFacts) -> Said:
    """Item 21."""
    test = facts.run.test
    whole = "the whole test subset" if test.complete else f"of {test.subset_images:,} in the test subset"
    text = f"Tested on {count(test.images, 'image')} ({whole}) of {count(test.patients, 'patient')}."
    return Said(text, "say how this size was determined, or that it is the data set's", (SCORES,))


ANSWERS: dict[int, Callable[[RunFacts], Said]] = {
    1: title,
    2: lambda _: author("write the abstract"),
    3: lambda _: author("give the background, and who should use the model for what"),
    4: lambda _: author("state aims and hypotheses"),
    5: design,
    6: lambda _: author("state the goal: a model, a comparison, a feasibility study"),
    7: data_sources,
    8: eligibility,
    9: preprocessing,
    10: subsets,
    11: deidentification,
    12: missing_data,
    13: acquisition,
    14: reference_standard,
    15: lambda _: author("say why this reference standard was chosen, and what it cannot show"),
    16: annotation_source,
    17: test_annotation,
    18: variability,
    19: assignment,
    20: disjoint,
    21: sample_size,
}
