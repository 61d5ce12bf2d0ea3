"""The systems that the paper compares with: their networks and losses, by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_systems import SMALL, batch_of, images, outputs_of, small, truth

from cxrkit import losses, models
from cxrkit.base.contracts import Outputs
from cxrkit.base.errors import UserError
from cxrkit.base.labels import CHESTXRAY8, CHESTXRAY14
from cxrkit.models import label_sequence, li2018


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def convolutions(*shapes: tuple[int, int, int]) -> int:
    """Weights of convolutions without bias, (channels in, channels out, kernel)."""
    return sum(before * after * kernel**2 for before, after, kernel in shapes)


# ---- the networks ----------------------------------------------------------------------------------------------------


def parameters_of_yao2017() -> int:
    """The encoder of the published size, layer by layer, its code of 512, and the LSTM over 15 labels."""
    total, width = convolutions((1, 32, 7)) + 2 * 32, 32
    for number, layers in enumerate((4, 4, 8, 8, 8)):
        if number:
            total, width = total + 2 * width + convolutions((width, width // 2, 1)), width // 2
        for _ in range(layers):
            total, width = total + 2 * width + convolutions((width, 16, 3)), width + 16
    total += 2 * width + width * 512 + 512
    first_state = 2 * (512 * 256 + 256)
    lstm = 4 * 256 * (512 + 64) + 4 * 256 * 256 + 2 * 4 * 256
    return total + first_state + lstm + 2 * 14 * 64 + 256 * 15 + 15


def parameters_of_yao2018() -> int:
    def dense(width: int, layers: int, to: int) -> int:
        each = sum(2 * (width + 32 * n) + convolutions((width + 32 * n, 32, 3)) for n in range(layers))
        return each + 2 * (width + 32 * layers) + convolutions((width + 32 * layers, to, 1))

    total, before = convolutions((1, 14, 7)) + 2 * 14, 14
    for width, layers in ((14, 6), (28, 12), (56, 24), (112, 0)):
        total += convolutions((before, width, 3), (width, width, 3), (before, width, 1)) + 6 * width
        total += dense(width, layers, width) if layers else 0
        before = width
    total += dense(112 + 56, 2, 56) + dense(56 + 28, 2, 28) + dense(28 + 14, 2, 14)
    return total + 2 * 14 + 14 * 15 + 15 + 15  # normalisation, the maps, a sharpness for each label


def test_parameters_by_hand() -> None:
    """Of torchvision's backbones their published counts without the dense layer: 23,508,032 and 6,953,856."""
    counts = {}
    for name, options in [("yao2017", {}), ("yao2018", {}), ("li2018", {"channels": 3}), ("guendel2018", {})]:
        with torch.device("meta"):  # shapes without numbers
            model = models.build(name, options=options)
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    assert counts == {
        "yao2017": parameters_of_yao2017(),
        "yao2018": parameters_of_yao2018(),
        "li2018": 23_508_032 + convolutions((2048, 512, 3)) + 2 * 512 + 512 * 15 + 15,
        "guendel2018": 6_953_856 + 2 * (3 * 3 * 9 + 3) + 1024 * 15 + 15,
    }


@pytest.mark.parametrize("labels", [CHESTXRAY14, CHESTXRAY8], ids=lambda labels: labels.name)
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str, labels: Any) -> None:
    model = models.build(name, labels=labels, options=SMALL[name] | {"input_size": 64})
    outputs = outputs_of(model)
    assert outputs.logits.shape == (3, len(labels))
    batch = batch_of(truth(labels=len(labels)))
    loss = losses.build("yao2017-sequence" if name == "yao2017" else "bce-mean", labels=labels)
    loss(outputs, batch).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert parameter.grad.abs().sum() > 0, path


def test_yao2018s_maps_are_an_eighth_of_the_input_and_their_pooling_is_the_logit() -> None:
    model = small("yao2018").eval()
    with torch.no_grad():
        model.pooling.beta.uniform_(-1, 1)
        outputs = outputs_of(model)
    assert outputs.maps is not None
    assert outputs.maps.shape == (3, 15, 8, 8)
    sharpness_L1 = (5 + model.pooling.beta.double().exp())[:, None]
    p_BLN = outputs.maps.double().sigmoid().flatten(2)
    pooled_BL = (sharpness_L1 * p_BLN).exp().mean(dim=2).log() / sharpness_L1[:, 0]
    torch.testing.assert_close(outputs.logits.double().sigmoid(), pooled_BL, rtol=1e-5, atol=1e-6)
    assert outputs_of(model, size=72).maps.shape == (3, 15, 9, 9)


def test_li2018s_places_are_any_number_and_their_noisy_or_is_the_logit() -> None:
    for places in (1, 2, 3):  # the backbone's map of 64 pixels is 2 x 2
        model = small("li2018", places=places).eval()
        with torch.no_grad():
            outputs = outputs_of(model)
        assert outputs.maps is not None
        assert outputs.maps.shape == (3, 15, places, places)
        none_BLN = 0.98 + 0.02 * (1 - outputs.maps.double().sigmoid().flatten(2))
        torch.testing.assert_close(
            outputs.logits.double().sigmoid(), 1 - none_BLN.prod(dim=2), rtol=1e-4, atol=1e-6, msg=f"{places}"
        )


@pytest.mark.parametrize(
    ("places", "floor", "begins"),
    [(4, 0.98, 0.05), (16, 0.98, 0.05), (8, 0.922, 0.05), (4, 0.0, 0.05), (1, 0.98, 0.01)],  # one says at most 0.02
)
def test_li2018_begins_where_all_places_together_say_its_prior(places: int, floor: float, begins: float) -> None:
    model = small("li2018", places=places, floor=floor).eval()
    with torch.no_grad():
        model.out.weight.zero_()
        logits = outputs_of(model).logits
    torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, begins), rtol=1e-4, atol=1e-5)


def test_an_untrained_li2018_loses_little_on_labels_that_are_rare() -> None:
    """With biases of 0 its places say 0.92 together, and a label that an image has not costs 2.6."""
    model = small("li2018", places=16).eval()
    target = (torch.rand(3, 15, generator=torch.Generator().manual_seed(1)) > 0.95).float()
    with torch.no_grad():
        found = losses.build("bce-mean")(outputs_of(model), batch_of(target))
        model.out.bias.zero_()
        before = losses.build("bce-mean")(outputs_of(model), batch_of(target))
    assert found < 0.4
    assert before > 2


def test_places_are_the_largest_values_or_lie_between() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert li2018.to_places(x, 2).flatten().tolist() == [5, 7, 13, 15]
    assert li2018.to_places(x, 4) is x
    assert li2018.to_places(x, 8)[0, 0, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def test_guendel2018_begins_as_the_backbone_on_a_smaller_image() -> None:
    model = small("guendel2018").eval()
    image = images(model)
    inner = model.shrink(image)
    assert inner.shape == (3, 3, 16, 16)
    # Rows and columns 1 to 7 make the place (1, 1), by way of 3 x 3 means.
    means = [image[:, :, y : y + 3, x : x + 3].mean(dim=(2, 3)) for y in (1, 3, 5) for x in (1, 3, 5)]
    torch.testing.assert_close(inner[:, :, 1, 1], sum(means) / 9)
    assert outputs_of(model).extra == {}
    located = outputs_of(small("guendel2018", locations=9))
    assert located.extra["locations"].shape == (3, 9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("yao2017", {"feedback": "hard"}, "feedback='hard'\n  remedy: choose soft or greedy"),
        ("yao2017", {"order": ["Hernia"]}, "its order has not each label of chestxray14 once; look at Atelectasis,"),
        ("yao2018", {"blocks": []}, r"blocks=\[\]"),
        ("yao2018", {"r0": -1.0}, r"r0=-1.0\n  remedy: give 0 or more"),
        ("li2018", {"places": 0}, "places=0, floor=0.98"),
        ("li2018", {"prior": 1.0}, r"prior=1.0\n  remedy: give at least 1 place"),
        ("li2018", {"backbone": "resnet50"}, "backbone 'resnet50': expected one of torchvision, timm or xrv"),
        ("guendel2018", {"locations": -1}, "locations=-1"),
        ("torchvision:resnet18", {"label_set": "chestxray8"}, "the prepared folder has the labels of chestxray14"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, options=options)


def test_weights_of_a_backbone_inside(tmp_path: Path) -> None:
    """--weights fills the backbone of a system, and only that; a network without one takes none."""
    file = tmp_path / "weights.pth"
    net = models.build(SMALL["li2018"]["backbone"], options={"channels": 3}, seed=5).backbone.net
    torch.save(net.state_dict(), file)
    model = models.build("li2018", options=SMALL["li2018"] | {"pretrained": True}, weights=file)
    assert model.backbone.net.state_dict().keys() == net.state_dict().keys()
    for path, value in model.backbone.net.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[path], rtol=0, atol=0)
    assert model.initial_weights.sha256
    assert models.spec("li2018", options=SMALL["li2018"] | {"pretrained": True}).channels == 3  # nothing is downloaded
    with pytest.raises(UserError, match=r"--weights .*: yao2018 does not start from ImageNet weights"):
        models.build("yao2018", weights=file)


# ---- labels said one after the other ---------------------------------------------------------------------------------


def conditional(model: torch.nn.Module, code_D: torch.Tensor, said: list[float]) -> float:
    """p(label at place len(said) of the order | code, what was said), with torch's own LSTM cell, step by step."""
    part = model.sequence
    state = torch.tanh(part.first_hidden(code_D[None])), part.first_cell(code_D[None])
    for step in range(len(said) + 1):
        word = torch.zeros(1, part.absent.shape[1])
        if step:
            word = (1 - said[step - 1]) * part.absent[step - 1 : step] + said[step - 1] * part.present[step - 1 : step]
        state = part.lstm(torch.cat([code_D[None], word], dim=1), state)
    return part.out(state[0])[0, len(said)].sigmoid().item()


def test_teacher_forcing_is_the_product_of_conditionals() -> None:
    """exp(-loss) of one image is p(y | x); where a label is not known the sequence goes on with what it says itself."""
    model = small("yao2017").eval()
    order = model.sequence.order.tolist()
    target = truth(1)
    unknown = order[4]
    target[0, unknown] = float("nan")
    with torch.no_grad():
        outputs = outputs_of(model, 1)
        loss = losses.build("yao2017-sequence", labels=CHESTXRAY14)(outputs, batch_of(target)).item()
        code, said, expected = outputs.extra[label_sequence.CODE][0], [], 1.0
        for place in order:
            p, true = conditional(model, code, said), target[0, place].item()
            said.append(p if place == unknown else true)
            expected *= 1 if place == unknown else (p if true else 1 - p)
    assert math.exp(-loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("feedback", ["soft", "greedy"])
def test_feedback_goes_by_what_was_said(feedback: str) -> None:
    model = small("yao2017", feedback=feedback).eval()
    with torch.no_grad():
        outputs = outputs_of(model, 1)
        code, said = outputs.extra[label_sequence.CODE][0], []
        for place in model.sequence.order.tolist():
            p = conditional(model, code, said)
            assert outputs.logits[0, place].sigmoid().item() == pytest.approx(p, rel=1e-4)
            said.append(p if feedback == "soft" else float(p > 0.5))


def test_greedy_and_soft_are_the_same_where_probabilities_are_0_or_1() -> None:
    model = small("yao2017").eval()
    with torch.no_grad():
        apart = outputs_of(model, 8)
        assert not torch.allclose(apart.logits, label_sequence.decode(apart.extra, greedy=True), atol=1e-4)
        model.sequence.out.weight.mul_(1e6)
        model.sequence.out.bias.mul_(1e6)
        sure = outputs_of(model, 8)
        p = sure.logits.sigmoid()
        assert set(p.unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(sure.logits, label_sequence.decode(sure.extra, greedy=True), rtol=0, atol=0)
        # And a teacher who says just that is followed to the same labels.
        torch.testing.assert_close(label_sequence.decode(sure.extra, p), sure.logits, rtol=0, atol=0)


def test_the_order_is_the_sequences_alone() -> None:
    """Outputs stay in the order of the label set: two networks that say labels in two orders have the same columns."""
    backwards = list(reversed(CHESTXRAY14.labels))
    model = small("yao2017", order=backwards)
    assert model.sequence.order.tolist() == list(range(14, -1, -1))
    assert small("yao2017").sequence.order[0] == CHESTXRAY14.labels.index("Infiltration")
    first = model.sequence.out.bias.detach().clone()
    with torch.no_grad():
        model.sequence.out.weight.zero_()
        torch.testing.assert_close(outputs_of(model).logits[0], first.flip(0))


def test_tensors_alone_go_to_the_loss_and_only_the_code_is_one_row_an_image() -> None:
    """Several processes exchange what has a row for each image: not the decoder's parameters, whatever the batch."""
    model = small("yao2017")
    extra = outputs_of(model, 4).extra
    assert {name: value.shape[0] for name, value in extra.items()} == {
        name: 4 if name == label_sequence.CODE else 1 for name in extra
    }
    # They are the parameters themselves, not copies: what the loss learns arrives there.
    own = {parameter.data_ptr() for parameter in model.sequence.parameters()}
    assert own <= {value.data_ptr() for value in extra.values()}


def test_the_sequence_loss_is_of_such_networks() -> None:
    loss = losses.build("yao2017-sequence", labels=CHESTXRAY14, options={"entropy": "bce-batch-weighted"})
    outputs = outputs_of(small("yao2017"))
    forced = replace(outputs, logits=label_sequence.decode(outputs.extra, truth()), extra={})
    weighted = losses.build("bce-batch-weighted", labels=CHESTXRAY14)
    torch.testing.assert_close(loss(outputs, batch_of(truth())), weighted(forced, batch_of(truth())))
    with pytest.raises(UserError, match="the network says no labels one after the other"):
        loss(Outputs(torch.zeros(3, 15)), batch_of(truth()))
    with pytest.raises(UserError, match="its entropy cannot be itself"):
        losses.build("yao2017-sequence", labels=CHESTXRAY14, options={"entropy": "yao2017-sequence"})
