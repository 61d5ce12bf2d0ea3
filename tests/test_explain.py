"""Maps of what a network looks at: by the dense layer and by autograd, on the film, and as a gallery."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_maps
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from cxrkit import models, pipeline
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8
from cxrkit.cli.app import app
from cxrkit.explain import attribution, gallery, panels
from cxrkit.explain.choosing import Wanted
from cxrkit.explain.explaining import explain
from cxrkit.explain.gallery import Exhibit
from cxrkit.explain.looking import open_network
from cxrkit.explain.placing import Placement
from cxrkit.loaders.plan import Plan
from cxrkit.models import ModelSpec
from cxrkit.runs.config import to_toml
from cxrkit.runs.folder import RunFolder


class Curved(nn.Module):
    """A map of features, and logits that are no weighted mean of it: only gradients say what matters where."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.maps = nn.Conv2d(1, 4, 3, stride=4, padding=1)
        self.fc = nn.Linear(4 * 36 + 3, 5)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        x = self.maps(image_BCHW).tanh()
        return Outputs(self.fc(torch.cat([(x**2).flatten(1), meta_B3], dim=1)).sin())

    def by_hand(self, image: Tensor, meta: Tensor, label: int) -> tuple[Tensor, Tensor]:
        """Return the features and the slope of the label's logit by them."""
        features = self.maps(image).detach().requires_grad_()
        logits = self.fc(torch.cat([(features.tanh() ** 2).flatten(1), meta], dim=1)).sin()
        return features.detach(), torch.autograd.grad(logits[:, label].sum(), features)[0]


class Tokens(nn.Module):
    """A vision transformer's shape: patches to tokens, whose mean goes through a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.fc = nn.Conv2d(1, 4, 4, stride=4), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        return Outputs(self.fc(self.norm(self.patches(image_BCHW).flatten(2).transpose(1, 2)).mean(1)))


class ChannelsLast(nn.Module):
    """A network that keeps its channels behind its places, as Swin of timm does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.backbone = nn.Sequential(nn.Conv2d(1, 6, 4, stride=4), _Permute(), nn.LayerNorm(6))
        self.backbone.channels = 6
        self.fc = nn.Linear(6, 2)

    def forward(self, image_BCHW: Tensor, meta_B3: Tensor) -> Outputs:
        return Outputs(self.fc(self.backbone(image_BCHW).mean((1, 2))))


class _Permute(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def example(size: int = 24, images: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(images, 1, size, size, generator=generator), torch.rand(images, 3, generator=generator)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return models.build("resnet14-small-meta", labels=CHESTXRAY8, seed=1).eval()


# Class activation maps


def test_a_class_activation_map_is_the_dense_layer_at_every_place(resnet: nn.Module) -> None:
    image, meta = example(96)
    found = attribution.choose(resnet, "auto", image, meta)
    assert found.name == "cam"
    maps = found.compute(image, meta, [2, 5])
    features = resnet.feature_maps(image)
    assert maps.shape == (2, 2, *features.shape[2:])
    weight = resnet.fc.weight[:, : features.shape[1]]
    for place in ((0, 0), (1, 2)):
        expected = features[:, :, *place] @ weight[[2, 5]].T + resnet.fc.bias[[2, 5]]
        torch.testing.assert_close(maps[:, :, *place], expected)


def test_the_mean_of_a_map_and_the_metadata_is_the_logit(resnet: nn.Module) -> None:
    image, meta = example(96)
    seen = (meta - resnet.spec.meta_centre) * resnet.spec.meta_gain
    maps = resnet.label_maps(resnet.feature_maps(image), seen)
    torch.testing.assert_close(maps.mean((2, 3)), resnet(image, meta).logits, rtol=1e-4, atol=1e-5)


def test_maps_of_the_network_itself_come_first() -> None:
    options = {"head": "maps", "pooling": "lse", "input_size": 64}
    model = models.build("torchvision:resnet18", labels=CHESTXRAY8, options=options).eval()
    image, meta = example(64)
    found = attribution.choose(model, "cam", image, meta)
    assert found.words == "the network's own score maps"
    torch.testing.assert_close(found.compute(image, meta, [3]), model(image, meta).maps[:, [3]])


def test_features_that_are_pooled_otherwise_are_weighed_before_the_pooling() -> None:
    """As Wang et al. 2017 do with log-sum-exp."""
    options = {"pooling": "lse", "transition": 8, "input_size": 64}
    model = models.build("torchvision:resnet18", labels=CHESTXRAY8, options=options).eval()
    image, meta = example(64)
    maps = attribution.choose(model, "auto", image, meta).compute(image, meta, [0])
    expected = torch.einsum("k,bkhw->bhw", model.fc.weight[0], model.feature_maps(image)) + model.fc.bias[0]
    torch.testing.assert_close(maps[:, 0], expected)


# Grad-CAM


def test_grad_cam_is_what_autograd_says_by_hand() -> None:
    model = Curved().eval()
    image, meta = example()
    found = attribution.choose(model, "auto", image, meta)
    assert found.name == "grad-cam"
    maps = found.compute(image, meta, [4, 1])
    for place, label in enumerate((4, 1)):
        features, slope = model.by_hand(image, meta, label)
        expected = torch.zeros(2, 6, 6)
        for b in range(2):
            for k in range(4):
                expected[b] += slope[b, k].sum() / 36 * features[b, k]
        torch.testing.assert_close(maps[:, place], expected.clamp(min=0))
    assert not model.maps._forward_hooks, "the hook is gone"


def test_grad_cam_of_averaged_features_is_the_map_divided_by_its_places(resnet: nn.Module) -> None:
    image, meta = example(96)
    cam = attribution.choose(resnet, "cam", image, meta).compute(image, meta, [0, 3])
    grad = attribution.choose(resnet, "grad-cam", image, meta).compute(image, meta, [0, 3])
    plain = cam - resnet.fc.bias[[0, 3]][None, :, None, None]
    places = cam.shape[2] * cam.shape[3]
    torch.testing.assert_close(grad, plain.clamp(min=0) / places, rtol=1e-4, atol=1e-6)


def test_a_frozen_backbone_has_a_map_too() -> None:
    model = Curved().eval()
    image, meta = example()
    before = attribution.choose(model, "grad-cam", image, meta).compute(image, meta, [0])
    model.requires_grad_(False)
    after = attribution.choose(model, "grad-cam", image, meta).compute(image, meta, [0])
    torch.testing.assert_close(after, before)
    assert before.abs().max() > 0


def test_channels_behind_the_places_are_understood() -> None:
    model = ChannelsLast().eval()
    image, meta = example(40)
    maps = attribution.choose(model, "grad-cam", image, meta).compute(image, meta, [1])
    plain = torch.einsum("k,bhwk->bhw", model.fc.weight[1], model.backbone(image)) / 100
    torch.testing.assert_close(maps[:, 0], plain.clamp(min=0))


# The library's methods


def test_a_method_of_the_library_is_its_formula_at_the_inputs_size() -> None:
    """HiResCAM: ReLU of the sum of slope times feature; the library scales it to [0, 1] and to the input."""
    model = Curved().eval()
    image, meta = example()
    maps = attribution.choose(model, "hires-cam", image, meta).compute(image, meta, [2]).numpy()
    features, slope = model.by_hand(image, meta, 2)
    for place in range(2):
        plain = (features[place] * slope[place]).sum(0).clamp(min=0).numpy()
        scaled = cv2.resize((plain - plain.min()) / np.ptp(plain), (24, 24))
        assert np.allclose(maps[place, 0], scaled, atol=1e-4)


@pytest.mark.parametrize("method", ["grad-cam++", "layer-cam", "xgrad-cam"])
def test_the_other_methods_run_on_a_network_of_the_paper(resnet: nn.Module, method: str) -> None:
    image, meta = example(96)
    found = attribution.choose(resnet, method, image, meta)
    assert attribution.LIBRARY[method] in found.words
    maps = found.compute(image, meta, [0, 1])
    assert maps.shape == (2, 2, 96, 96)
    assert torch.isfinite(maps).all()
    assert maps.amax() > 0


# What cannot be


def test_an_unknown_method_names_the_near_one(resnet: nn.Module) -> None:
    with pytest.raises(UserError, match=r"unknown --method 'gradcam'[^\0]*did you mean grad-cam"):
        attribution.choose(resnet, "gradcam", *example(96))


def test_a_network_without_maps_is_told_of_grad_cam() -> None:
    with pytest.raises(UserError, match=r"makes no map[^\0]*choose --method grad-cam"):
        attribution.choose(Curved().eval(), "cam", *example())


def test_tokens_are_no_map() -> None:
    with pytest.raises(UserError, match=r"no last map of features, and no blocks of patches[^\0]*of convolutions"):
        attribution.choose(Tokens().eval(), "auto", *example())


# Back to the film


def plan(levels: tuple[int, ...] = (1024,), input_size: int = 224, resize: int = 256, side: int = 1024) -> Plan:
    return Plan(np.arange(3), False, 0, 2, input_size, resize, levels, side)


def test_the_input_lies_in_the_middle_of_the_film() -> None:
    # 224 of 256 pixels of a film of 1024: 896, and 64 at each side.
    assert Placement.of(plan()).window == pytest.approx((64, 64, 960, 960))
    assert Placement.of(plan((256, 128))).window == pytest.approx((64, 64, 960, 960)), "whatever level is sampled"
    assert Placement.of(plan((512,), side=512)).window == pytest.approx((64, 64, 960, 960)), "nor size of the copy"


def test_a_cell_lands_where_its_centre_is() -> None:
    placement = Placement.of(plan())
    cells = np.zeros((7, 7), np.float32)
    cells[1, 4] = 1
    # Cells of 128 pixels from 64 on: the centre of the fifth is at 64 + 4.5 * 128, of the second at 64 + 1.5 * 128.
    assert placement.point(cells) == pytest.approx((640, 256))
    film = placement.to_film(cells)
    assert film.shape == (1024, 1024)
    assert film[255:257, 639:641] == pytest.approx(np.full((2, 2), 1), abs=0.01)
    assert film[256, 640 + 64] == pytest.approx(0.5, abs=0.01), "half way to the next centre"
    assert film[256, 640 + 128] == pytest.approx(0, abs=0.01)
    assert np.isnan(film[63, 500])
    assert np.isnan(film[500, 960])
    assert not np.isnan(film[64:960, 64:960]).any()


def test_a_map_of_one_value_is_that_value_everywhere_and_edges_hold() -> None:
    film = Placement.of(plan()).to_film(np.full((5, 3), 2.5))
    assert np.nanmin(film) == np.nanmax(film) == 2.5
    ramp = Placement.of(plan()).to_film(np.arange(7.0)[None, :].repeat(7, axis=0))
    assert ramp[500, 64] == 0, "outside the outermost centres their values hold"
    assert ramp[500, 959] == 6
    assert ramp[500, 64 + 448] == pytest.approx(3, abs=0.01)


# Runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("spots")
    return tiny_maps.train(tiny_maps.write_spots(folder / "data"), folder / "runs")


def boxed_image(run: RunFolder, label: str) -> str:
    network = open_network(run)
    try:
        boxes = network.inputs.store.boxes()
        names = set(network.inputs.frame["image_id"].gather(network.inputs.rows["test"]).to_list())
        return next(name for name in boxes.filter(label=label)["image_id"] if name in names)
    finally:
        network.close()


def test_pixels_a_loader_delivers_are_found_again_on_the_film(run: RunFolder) -> None:
    """Through shards, plan, loader, network and back: the brightest square of the film is where its box says."""
    network = open_network(run)
    try:
        boxes = network.inputs.store.boxes()
        off = []
        for image in boxes.filter(label="Bright")["image_id"].head(20):
            row = network.inputs.frame["image_id"].index_of(image)
            (box,) = boxes.filter(image_id=image).select("x", "y", "width", "height").rows()
            (seen,) = network.look([row], [0])
            film = network.placement.to_film(seen.maps[0])
            rows, columns = np.nonzero(film > np.nanmax(film) / 2)
            off.append((columns.mean() + 0.5 - box[0] - box[2] / 2, rows.mean() + 0.5 - box[1] - box[3] / 2))
        # A cell is 51 pixels of the film: what each centre is off by depends on how its cells lie, the mean does not.
        assert np.abs(off).max() < 26
        assert np.abs(np.mean(off, axis=0)).max() < 5
    finally:
        network.close()


def test_images_come_in_the_order_they_are_asked_for(run: RunFolder) -> None:
    network = open_network(run)
    try:
        rows = [40, 3, 17, *range(60, 80)]
        seen = list(network.look(rows, [1, 0]))
        assert [item.row for item in seen] == rows
        (alone,) = network.look([17], [0])
        assert np.allclose(alone.maps[0], seen[2].maps[1])
        assert seen[0].scores.shape == (2,)
    finally:
        network.close()


def test_random_weights_are_drawn_with_the_runs_seed(tmp_path: Path, run: RunFolder) -> None:
    data = open_network(run).inputs.store.folder
    trained = tiny_maps.train(data, tmp_path, "tiny_maps:build_learned", lr=0.02, seed=3, limit=20)
    one, other = (open_network(trained, weights="random") for _ in range(2))
    best = open_network(trained)
    fresh = models.build("tiny_maps:build_learned", labels=tiny_maps.SPOTS, seed=3)
    try:
        for name, value in fresh.state_dict().items():
            assert torch.equal(one.model.state_dict()[name], value)
            assert torch.equal(other.model.state_dict()[name], value)
        assert not torch.equal(best.model.head.weight, fresh.head.weight)
    finally:
        for network in (one, other, best):
            network.close()


def test_a_gallery_shows_films_maps_and_boxes(run: RunFolder, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["explain", str(run.path), "--boxes", "--top", "2", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "4 panels of the network's own score maps" in done.output
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("<figure>") == text.count('src="data:image/jpeg;base64,') == 4
    alts = re.findall(r'alt="([^"]*)"', text)
    assert len(alts) == 4
    assert all("1 box of the finding; the map is highest inside it." in alt for alt in alts)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text), "nothing is fetched"
    files = sorted((tmp_path / "out").glob("*.png"))
    assert len(files) == 4
    assert files[0].name.startswith("Bright-")
    with Image.open(files[0]) as picture:
        assert picture.size == (2 * panels.SIDE + 10, 58 + panels.SIDE + 30)
        yellow = np.asarray(picture)[:, :, :3] == np.array([255, 221, 51])
        assert yellow.all(axis=2).sum() > 100


def test_images_that_are_named_are_shown_with_their_findings(run: RunFolder, tmp_path: Path) -> None:
    image = boxed_image(run, "Dark")
    made = explain(run, Wanted(images=(image,)), tmp_path / "out")
    assert (tmp_path / "out" / f"Dark-{Path(image).stem}.png").exists()
    made = explain(run, Wanted(pathologies=("bright", "Dark"), images=(image,)), tmp_path / "both", method="grad-cam")
    assert made.panels == 2
    text = made.page.read_text()
    assert text.index(">Bright <") < text.index(">Dark <")
    assert "not labelled with it" in text


def test_the_highest_scores_are_shown_first(run: RunFolder, tmp_path: Path) -> None:
    made = explain(run, Wanted(pathologies=("Bright",), top=5), tmp_path / "out")
    scores = [float(score) for score in re.findall(r"score ([\d.]+),", made.page.read_text())]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


def test_a_page_escapes_what_it_is_given() -> None:
    picture = Image.new("RGB", (4, 4))
    shown = Exhibit("<b>Mass</b>", '"><script>.png', 0.5, "a & b", 'say "map"', picture)
    text = gallery.page([shown], title="<i>", about=["1 < 2"])
    assert "<script>" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;Mass" in text
    assert 'alt="say &#34;map&#34;"' in text
    assert shown.file == "b_Mass_b-script.png"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"pathologies": ("Brigth",)}, r"unknown pathology 'Brigth'[^\0]*did you mean Bright"),
        ({"images": ("00000003_00.png",)}, r"no image 00000003_00.png[^\0]*did you mean 00000003_00\d.png"),
        ({"images": ("elsewhere",)}, r"no image elsewhere[^\0]*name one as in its table: 00000000_000.png"),
        ({"images": ("a",), "boxes": True}, r"two ways to choose images"),
        ({"top": 0}, r"--top 0: expected at least 1"),
    ],
)
def test_what_there_is_not_is_told(run: RunFolder, tmp_path: Path, wanted: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        explain(run, Wanted(**wanted), tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_boxes_are_missed_where_the_folder_has_none(run: RunFolder, tmp_path: Path) -> None:
    bare = tiny_maps.write_spots(tmp_path / "bare", boxes=False)
    with pytest.raises(UserError, match="prepared without boxes"):
        explain(run, Wanted(boxes=True), tmp_path / "out", bare)
    assert explain(run, Wanted(pathologies=("Dark",), top=1), tmp_path / "out", bare).panels == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mlp-meta", r"mlp-meta looks at no image[^\0]*name the run of an image network"),
        ("resnet50-large-age", r"is a probe of another run's features[^\0]*explain the run that it starts from"),
    ],
)
def test_networks_that_look_at_nothing_are_refused(run: RunFolder, tmp_path: Path, model: str, message: str) -> None:
    config = pipeline.resolve({"model": "mlp-meta", "data": open_network(run).inputs.store.folder})
    config = config.with_values({"model.name": model})
    (tmp_path / "config.toml").write_text(to_toml(config))
    with pytest.raises(UserError, match=message):
        open_network(RunFolder(tmp_path))


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        open_network(RunFolder(tmp_path))


def test_words_say_where_the_map_is_highest() -> None:
    cells = np.zeros((4, 4), np.float32)
    cells[0, 0] = 1
    placement = Placement(np.array([[16.0, 0, 0], [0, 16.0, 0]]), 64)
    film = np.zeros((16, 16), np.uint8)
    two = np.array([[500.0, 500, 9, 9], [700, 700, 9, 9]])
    panel = panels.Panel("a.png", "Mass", film, cells, placement, two, 0.25, "labelled with it")
    assert panel.words.endswith("2 boxes of the finding; the map is highest outside them.")
    flat = panels.Panel("a.png", "Mass", film, np.zeros((4, 4), np.float32), placement, two, 0.25, "labelled with it")
    assert flat.point is None
    assert flat.words.endswith("labelled with it.")
    assert panels.draw(flat).size == panels.draw(panel).size


def test_spec_of_a_small_network_is_unchanged() -> None:
    """`features` are still the average of what is now called feature_maps."""
    model = models.build("resnet14-small").eval()
    assert isinstance(model.spec, ModelSpec)
    image, _ = example(64)
    torch.testing.assert_close(model.features(image), model.feature_maps(image).mean((2, 3)))
