"""The sections of a training's config: each field with its default (its one home), its help and its allowed range."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "tf32")
CACHES = ("none", "gpu")
METRICS = ("val_loss", "val_auc")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("plateau", "cosine", "constant")
VIEWS = ("none", "flip", "ten-crop")


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str | None = "",
    decides: bool = True,
    resumable: bool = False,
    extra: bool = False,
) -> Any:
    """Return a dataclass field with what the command line and the checks must know of it.

    low, high: the allowed range, both ends included. choices: the allowed words. flag: the name on the command line,
    without the dashes, where it is not the field's own; None: it has no flag. decides: whether a network's numbers
    depend on it. resumable: whether a resumed training may change it. extra: beyond the paper's protocol; a recipe need
    not name it, and it is part of the recipe's digest only where it is not at its default.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "flag": flag, "decides": decides}
    return field(default=default, metadata=about | {"resumable": resumable, "extra": extra})


@dataclass(frozen=True)
class About:
    """What a recipe says of itself: printed, never computed with."""

    source: str = setting("", "where the system is described", decides=False, resumable=True)
    leaves_open: str = setting("", "what the source leaves open, and our choice", decides=False, resumable=True)
    expected: str = setting("", "the result to expect, and where it comes from", decides=False, resumable=True)
    cost: str = setting("", "time and hardware", decides=False, resumable=True)


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    name: str = setting("resnet50-large-meta", "name from `cxrkit models`, or package.module:function", flag="model")
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "options of the network, for instance --set model.options.width=32",
            "low": None, "high": None, "choices": (), "flag": "", "decides": True, "resumable": False, "extra": False,
        },
    )  # fmt: skip
    # The file's SHA-256 stands in the origin of all that comes of it; where it lies decides nothing.
    weights: Path | None = setting(
        None,
        "ImageNet weights of -ots and -ft: .pth or .safetensors instead of a download",
        decides=False,
        resumable=True,
    )

    # As with weights, the digest of its checkpoint stands in the origin, as what the training started from.
    from_run: Path | None = setting(
        None,
        "run folder whose trained network makes the features of a probe (-age, -gender, -vp)",
        flag="from",
        decides=False,
        resumable=True,
    )
    # What that run was trained as, filled in from it: folds are pooled only where their extractors are alike, too.
    extractor: str = setting("", "network that makes a probe's features; filled in from --from", flag=None)
    extractor_digest: str = setting("", "its recipe's digest; filled in from --from", flag=None)


@dataclass(frozen=True)
class InputSettings:
    """What the network looks at. None: the model's own value."""

    size: int | None = setting(
        None, "side of the network's input in pixels; the paper: 224, or 448", low=16, flag="input-size"
    )


@dataclass(frozen=True)
class AugmentationSettings:
    """How a training image is varied; the defaults are the paper's (section 3)."""

    area_min: float = setting(0.08, "smallest crop, as a share of the image's area", low=0.01, high=1)
    aspect_max: float = setting(4 / 3, "largest aspect ratio of a crop; the smallest is its inverse", low=1, high=4)
    angle: float = setting(7.0, "largest rotation, degrees either way", low=0, high=180)
    flip: float = setting(0.5, "probability of a horizontal flip", low=0, high=1)


@dataclass(frozen=True)
class LossSettings:
    """What is minimised."""

    name: str = setting("bce-mean", "loss name, or package.module:function", flag="loss")
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "options of the loss",
            "low": None, "high": None, "choices": (), "flag": "", "decides": True, "resumable": False, "extra": False,
        },
    )  # fmt: skip
    masked: tuple[str, ...] = setting(
        (),
        'labels beside the mean that are not learned, as in ["No Finding"]; they get no scores',
        flag=None,
        extra=True,
    )


@dataclass(frozen=True)
class OptimizerSettings:
    """How a step is taken: Adam (paper, section 3), or what systems of others take. None: the model's own value."""

    name: str = setting(
        "adam",
        "adam, adamw (weight decay apart from the gradient) or sgd (with momentum)",
        choices=OPTIMIZERS,
        flag="optimizer",
        extra=True,
    )
    lr: float | None = setting(None, "learning rate; the paper: 0.001 transfer, 0.01 from scratch", low=1e-9, high=10)
    batch_size: int | None = setting(None, "images per step; the paper: 16, or 8 for -large from scratch", low=1)
    micro_batch: int = setting(
        0,
        "images computed at once: their gradients add up to the batch's, but batch normalisation, and losses weighted "
        "by the batch, look at each part alone; 0: the whole batch",
        low=0,
        extra=True,
    )
    beta1: float = setting(0.9, "Adam's first decay rate", low=0, high=0.9999)
    beta2: float = setting(0.999, "Adam's second decay rate", low=0, high=0.999999)
    momentum: float = setting(0.9, "of sgd", low=0, high=0.9999, flag=None, extra=True)
    weight_decay: float = setting(0.0, "L2 penalty; the paper uses none", low=0, high=1)
    decay_norms: bool = setting(
        True, "whether weight decay takes biases and the weights of normalisations too", flag=None, extra=True
    )
    layer_decay: float = setting(
        1.0,
        "factor on the learning rate from each layer of a backbone to the one before; the head's is the full rate",
        low=0.01,
        high=1,
        flag=None,
        extra=True,
    )
    clip_norm: float = setting(0.0, "longest gradient over all parameters; 0: none is shortened", low=0, extra=True)
    ema: float = setting(
        0.0,
        "decay of an average of the weights over the steps, such as 0.9998, which is validated and kept; 0: none",
        low=0,
        high=0.999999,
        extra=True,
    )


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, and how the learning rate falls: multiplied at plateaus of the validation loss (paper, section 3)."""

    name: str = setting(
        "plateau",
        "plateau, cosine or constant: the rate falls at plateaus of the validation loss, along a cosine that ends in "
        "min_lr with the last epoch, or not at all",
        choices=SCHEDULES,
        flag="schedule",
        extra=True,
    )
    # The paper says nothing of the number of epochs; with a halving at every plateau 30 leave the rate spent.
    epochs: int = setting(30, "passes over the training images", low=1, resumable=True)
    factor: float = setting(0.5, "factor on the learning rate at a plateau", low=0.01, high=1, flag="lr-factor")
    # "When the validation loss does not improve" (section 3), read literally: after one epoch without improvement.
    patience: int = setting(0, "epochs without improvement that are tolerated before the rate is halved", low=0)
    warmup_epochs: float = setting(
        0.0, "over so many epochs, or a part of one, the learning rate first rises, step by step", low=0, extra=True
    )
    warmup_from: float = setting(0.0, "learning rate that it rises from", low=0, high=10, flag=None, extra=True)
    min_lr: float = setting(0.0, "learning rate that cosine ends with", low=0, high=10, flag=None, extra=True)
    stop_patience: int = setting(
        0, "end after so many epochs without a better one by --select; 0: take all epochs", low=0, extra=True
    )


@dataclass(frozen=True)
class SelectionSettings:
    """Which epoch's network is kept as the best."""

    metric: str = setting("val_loss", "lowest val_loss, or highest val_auc", choices=METRICS, flag="select")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a trained network is tried."""

    evaluator: str = setting(
        "auc",
        "evaluator name, or package.module:function; several, as in auc,mine:brier, stand side by side",
        decides=False,
        resumable=True,
    )
    views: str = setting(
        "none",
        "how validation and test images are looked at in prediction: none is the centre crop alone, flip also its "
        "mirror image, ten-crop also the corners; probabilities are averaged. Epochs are chosen without",
        choices=VIEWS,
        extra=True,
    )


@dataclass(frozen=True)
class RunSettings:
    """Where, on what and with which seed: no part of a recipe."""

    name: str = setting("", "name of the run; default: its recipe's", decides=False)
    # Resumable, since a table may have moved: the split's digest decides.
    fold: str = setting(
        "official",
        "official, 1 to 5 (the paper's resampling), or a .csv table of your own",
        decides=False,
        resumable=True,
    )
    seed: int = setting(0, "seed of initialisation, order and augmentation", low=0, high=2**31 - 1, decides=False)
    limit: int | None = setting(
        None, "use at most N images of each subset (results are marked partial)", low=1, decides=False
    )
    data: Path = setting(Path("data/shards"), "prepared folder", decides=False, resumable=True)
    runs: Path = setting(Path("runs"), "where run folders go: RUNS/NAME/SPLIT", decides=False, resumable=True)
    precision: str = setting(
        "auto", "fp32, bf16, fp16, tf32, or auto: bf16 where the machine computes in it", choices=PRECISIONS
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...", decides=False, resumable=True)
    compile: bool | None = setting(
        None, "torch.compile the network; default: on CUDA only", decides=False, resumable=True
    )
    graph: bool | None = setting(
        None,
        "record the whole training step as one CUDA graph; default: on CUDA where that can be done",
        decides=False,
        resumable=True,
    )
    loader: str = setting("auto", "opencv, dali, auto, or package.module:Class", decides=False, resumable=True)
    loader_options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "options of the loader that --loader names, for instance --set run.loader_options.prefetch=4",
            "low": None, "high": None, "choices": (), "flag": "", "decides": False, "resumable": True, "extra": False,
        },
    )  # fmt: skip
    cache: str = setting(
        "none",
        "gpu: keep the training pixels in the device's memory; none: read them every epoch",
        choices=CACHES,
        decides=False,
        resumable=True,
    )
    cache_gb: float | None = setting(
        None,
        "at most this many GB of the device's memory for --cache gpu; default: 70 % of what is free",
        low=0.001,
        flag="cache-gb",
        decides=False,
        resumable=True,
    )
    threads: int | None = setting(
        None,
        "loader threads; default: one per core, on a CPU one per four that compute",
        low=1,
        high=1024,
        decides=False,
        resumable=True,
    )
    compute_threads: int | None = setting(
        None,
        "threads that compute on a CPU; default: OMP_NUM_THREADS, or one per core that is free; a resumed training "
        "keeps its number",
        low=1,
        high=1024,
        decides=False,
        resumable=True,
    )
    trainer: str = setting("supervised", "trainer name, or package.module:function")
    checkpoint_minutes: float = setting(
        10.0, "time between checkpoints inside an epoch; 0: every step", low=0, decides=False, resumable=True
    )
    keep_epochs: bool = setting(
        False,
        "keep the predictions of every epoch, about 2 MB each: reports can choose one epoch for several runs then",
        decides=False,
        resumable=True,
    )
    log_steps: int = setting(50, "steps between two lines of metrics.jsonl", low=1, decides=False)
    log: str = setting(
        "",
        "tensorboard, wandb, mlflow, or several joined by commas: trackers that are sent what metrics.jsonl has",
        decides=False,
        resumable=True,
    )
    log_options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "options of the trackers, for instance --set run.log_options.project=chest",
            "low": None, "high": None, "choices": (), "flag": "", "decides": False, "resumable": True, "extra": False,
        },
    )  # fmt: skip
