"""Model names and what each of them means. Imports neither numpy nor torch, so the command line can ask at once.

Numbers come from Baltruschat et al., "Comparison of Deep Learning Approaches for Multi-Label Chest X-Ray
Classification", Scientific Reports 2019 ("the paper"), unless a comment says that they are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cxrkit.base import registry
from cxrkit.base.errors import UserError
from cxrkit.base.labels import AGE, SEX, VIEW

# ImageNet's channel statistics, the ones torchvision's weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Ours; the paper does not give any. Mean and standard deviation of all pixels, scaled to [0, 1], of 242 ChestX-ray14
# images (one a patient, from both official lists), area-averaged to 256 x 256: 0.5044 and 0.2582. The mean's standard
# error, from the spread of the image means (0.090), is 0.006.
NIH_MEAN = (0.504,)
NIH_STD = (0.258,)

# Mean and standard deviation of all ages, in years, as the paper's Table 2 has them. A probe of the age puts out years,
# in these units from that origin: its weights then have the size of those that put out logits.
AGE_MEAN, AGE_SD = 46.87, 16.60
MLP_HIDDEN = (64, 64)  # ours; the paper only calls its perceptron "very simple" (section 2.4)
SMALLEST_INPUT = 32  # pixels; conv5_x is 1 x 1 there
BACKBONES = ("torchvision", "timm", "xrv")  # whose networks are taken as they are: timm:convnext_tiny (backbones.py)


def is_backbone(name: str) -> bool:
    """Whether a model's name is that of somebody else's network, with where it is from before a colon."""
    source, colon, of = name.partition(":")
    return bool(colon and of) and source in BACKBONES


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model that other stages must know before, or without, building it.

    The defaults are those of a ResNet trained from scratch at 224 x 224.
    """

    name: str
    """The canonical name: what run folders, configs and checkpoints are called after."""

    input_size: int = 224
    """Pixels along each side of the input: 224, or 448 for -large (section 2.2)."""

    resize: int = 256
    """Pixels along each side that a validation or test image is scaled to before its centre crop of `input_size`:
    256, or 480 for -large (section 3)."""

    channels: int = 1
    """Input channels: 1 from scratch (section 2.2), 3 with ImageNet weights."""

    meta: bool = False
    """Whether age, sex and view position join the pooled features (section 2.3, Figure 2)."""

    meta_centre: float = 0.0
    """Subtracted from age, sex and view (each 0 to 1) before `meta_gain`."""

    meta_gain: float = 1.0
    """Multiplies age, sex and view before the dense layer: 1 in the paper. More makes their weights learn faster."""

    pretrained: bool = False
    """Whether training starts from ImageNet weights (section 2.1)."""

    frozen_backbone: bool = False
    """Whether only the dense layer learns: the paper's off-the-shelf networks (section 2.1, Table 1)."""

    learning_rate: float = 0.01
    """Adam's: 0.001 for transfer learning, 0.01 from scratch (section 3)."""

    batch_size: int = 16
    """16, or 8 for -large (section 3)."""

    mean: tuple[float, ...] = NIH_MEAN
    """Per input channel, subtracted from pixels scaled to [0, 1]."""

    std: tuple[float, ...] = NIH_STD
    """Per input channel, divided by after `mean` was subtracted."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Bottleneck blocks of conv2_x to conv5_x (section 2.2); empty for a network without an image branch."""

    width: int = 64
    """Channels of conv1; conv5_x puts out 32 times as many (Table 1: 64 and 2048)."""

    extra_pool: bool = False
    """Whether a 3 x 3 max-pool of stride 2 follows conv2_x, as in -large (section 2.2, Figure 2)."""

    stride_in_3x3: bool = False
    """Where a stage halves its resolution: in the first 1 x 1 convolution (false; Table 1), or in the 3 x 3 one as
    torchvision's networks, and hence its ImageNet weights, do."""

    image: bool = True
    """Whether it looks at the image. A network that does not is given images of 0 x 0 pixels, and trained on every
    image that the tables list, prepared or not."""

    probe: str = ""
    """Name of the label set (of age, sex or view) that a probe predicts: one dense layer on the features of another
    run's network (section 3, --from RUN), which come in the place of age, sex and view. "" for other networks."""

    features_in: int = 0
    """Length of the feature vectors that a probe is given; 0 for other networks."""

    unit: str = ""
    """What the outputs are in ("years"), as LabelSet.unit; "" for logits, whose sigmoid is a probability."""

    source: str = "paper"
    """Whose design: "paper", "ours" (this toolkit's), both ("paper, ours": the paper leaves sizes open), or "own"."""

    @property
    def pixels(self) -> bool:
        """Whether its numbers depend on the images: by itself, or by the features that a probe is given."""
        return self.image or bool(self.probe)

    @property
    def features(self) -> int:
        """Length of the pooled image feature vector; 0 without an image branch."""
        return 32 * self.width if self.blocks else 0

    def at(self, input_size: int) -> ModelSpec:
        """Return the same model at another input size; `resize` keeps its ratio to the crop.

        Raises UserError below 32 pixels.
        """
        if self.probe:  # its extractor decides what was looked at
            return replace(self, input_size=input_size)
        if input_size < SMALLEST_INPUT:
            raise UserError(
                f"input size {input_size}: {self.name} needs at least {SMALLEST_INPUT} pixels along each side",
                remedy=f"choose at least {SMALLEST_INPUT}, or leave it at the model's own {self.input_size}",
            )
        return replace(self, input_size=input_size, resize=round(input_size * self.resize / self.input_size))


def parse(name: str) -> ModelSpec:
    """Return the spec that `name` (canonical or alias) stands for.

    Raises UserError for any other name, with the nearest known ones. The user's own `package.module:function` is
    not in the grammar: see `cxrkit.models.spec`.
    """
    try:
        return SPECS[ALIASES.get(name, name)]
    except KeyError:
        known = [*SPECS, *ALIASES, *registry.names("model")]
        raise registry.unknown("model", name, known) from None


# Bottleneck blocks of conv2_x to conv5_x. Section 2.2 counts conv3_x and conv4_x without their strided first block
# ("two, two, and three" for ResNet-38, "from 5 to 22" for ResNet-101), so that is added here.
_DEPTHS = {38: (2, 3, 4, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _with_and_without_meta(spec: ModelSpec) -> list[ModelSpec]:
    return [spec, replace(spec, name=f"{spec.name}-meta", meta=True)]


def _paper() -> list[ModelSpec]:
    """Return the networks of sections 2.1 to 2.3; the paper measured some of the combinations (Tables 3 and 5)."""
    specs: list[ModelSpec] = []
    for depth, blocks in _DEPTHS.items():
        one_channel = ModelSpec(f"resnet{depth}-1channel", blocks=blocks)
        large = replace(
            one_channel, name=f"resnet{depth}-large", input_size=448, resize=480, batch_size=8, extra_pool=True
        )
        specs += [*_with_and_without_meta(one_channel), *_with_and_without_meta(large)]
    fine_tuned = ModelSpec(
        "resnet50-ft",
        channels=3,
        pretrained=True,
        learning_rate=0.001,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        stride_in_3x3=True,
    )
    off_the_shelf = replace(fine_tuned, name="resnet50-ots", frozen_backbone=True)
    return [*specs, *_with_and_without_meta(off_the_shelf), *_with_and_without_meta(fine_tuned)]


def _mlp() -> ModelSpec:
    """Return the perceptron of section 2.4, which sees age, sex and view only; all its numbers are ours.

    Measured with its recipe: mean test AUC 0.602 on the official split, 0.615 over the five folds (the paper, on its
    own splits: 0.61).
    """
    return ModelSpec(
        "mlp-meta",
        input_size=32,
        resize=32,
        meta=True,
        learning_rate=0.001,
        batch_size=256,
        blocks=(),
        width=0,
        image=False,
        source="paper, ours",
    )


def _probes() -> list[ModelSpec]:
    """Return the dense layers that predict age, sex and view from the features of ResNet-50-large (section 3).

    "We employed the same training setup": that network's learning rate and batch size, its validation crop.
    """
    large = ModelSpec("resnet50-large", input_size=448, resize=480, batch_size=8, blocks=(), width=0, image=False)
    vp = replace(large, name="resnet50-large-vp", probe=VIEW.name, features_in=2048, source="paper, ours")
    return [
        replace(vp, name="resnet50-large-age", probe=AGE.name, unit=AGE.unit),
        replace(vp, name="resnet50-large-gender", probe=SEX.name),
        vp,
    ]


def _small() -> list[ModelSpec]:
    """Return a network for the demo, tests and CPUs, which no published table lists.

    It keeps the paper's layout, with one block a stage, a quarter of the channels and half the resolution. Measured on
    1,500 phantom films, 12 epochs, 500 held out: mean AUC 0.875, 0.895 and 0.869 for learning rates 0.001, 0.003 and
    0.01. About 850 training images/s on two busy CPU cores with channels_last and bf16 (AMX), 140 in fp32.
    """
    small = ModelSpec(
        "resnet14-small",
        input_size=112,
        resize=128,
        blocks=(1, 1, 1, 1),
        width=16,
        learning_rate=0.003,
        batch_size=32,
        # A demo's 800 steps of Adam are too few for weights of several units to grow on inputs of 0 to 1.
        meta_centre=0.5,
        meta_gain=8.0,
        source="ours",
    )
    return _with_and_without_meta(small)


SPECS: dict[str, ModelSpec] = {spec.name: spec for spec in [*_paper(), _mlp(), *_probes(), *_small()]}


def is_of_paper(name: str) -> bool:
    """Return whether a name is that of a convolutional network of the paper (sections 2.1 to 2.3)."""
    return ALIASES.get(name, name) in {spec.name for spec in _paper()}


# From scratch means one input channel, so the bare name is the paper's "-1channel": one canonical name, one run folder.
ALIASES: dict[str, str] = {
    f"resnet{depth}{meta}": f"resnet{depth}-1channel{meta}" for depth in _DEPTHS for meta in ("", "-meta")
}
