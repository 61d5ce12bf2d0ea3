"""Labels said one after the other: p(y | x) = product over t of p(y_t | x, y_1 ... y_(t-1)), by an LSTM.

Yao et al. 2017 (arXiv 1710.10501): findings depend on each other, so each label is predicted from the image and from
the labels before it, in a fixed order, with a sigmoid a label. A training is told the true labels before (teacher
forcing); a prediction goes by what it has said itself (greedy, as theirs).

    greedy feedback: the label before is 1 where its probability is above a half, else 0
    soft feedback: it is its probability

A score for each label is needed for an AUC, and under greedy feedback it jumps with the labels before it, so both are
offered. Where probabilities are 0 or 1 they are the same.

The teacher's labels are no input of a network here (image, meta), so the LSTM runs twice: the network gives the logits
of its feedback, and `as_tensors` its image code and the LSTM's own parameters, from which a loss (losses/sequence.py)
computes the logits under the teacher's labels by `decode`, a pure function. Nothing but tensors goes from network to
loss: a compiled network returns them like any other output, a recorded step holds them, several processes can exchange
the codes, and the gradient finds the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

CODE = "image code"
FEEDBACKS = ("soft", "greedy")
_PREFIX = "label sequence/"


class LabelSequence(nn.Module):
    """The LSTM, its first state (dense layers of the image code), and the two embeddings of each label said before."""

    def __init__(self, order: Sequence[int], code: int, hidden: int, embedding: int) -> None:
        """order: places of the labels in the network's outputs, as they are said."""
        super().__init__()
        labels = len(order)
        assert sorted(order) == list(range(labels)), "each label once"
        self.first_hidden, self.first_cell = nn.Linear(code, hidden), nn.Linear(code, hidden)
        self.absent = nn.Parameter(torch.randn(labels - 1, embedding))  # of the last label nothing follows
        self.present = nn.Parameter(torch.randn(labels - 1, embedding))
        self.lstm = nn.LSTMCell(code + embedding, hidden)
        self.out = nn.Linear(hidden, labels)
        self.order: Tensor
        self.register_buffer("order", torch.tensor(list(order)), persistent=False)

    def as_tensors(self, code_BD: Tensor) -> dict[str, Tensor]:
        """Return what `decode` needs, for Outputs.extra.

        Parameters have a first axis of length 1, so that nobody takes them for one row an image.
        """
        tensors = {name: value[None] for name, value in [*self.named_parameters(), ("order", self.order)]}
        return {CODE: code_BD, **{_PREFIX + name: value for name, value in tensors.items()}}


def decode(tensors: Mapping[str, Tensor], said_BL: Tensor | None = None, *, greedy: bool = False) -> Tensor:
    """Return the logits (B, L) float32 of each label given those before it, in the order of the network's outputs.

    tensors: of `as_tensors`. said_BL: the true labels, 1 or 0; where it is NaN, and everywhere without it, the label
    before is what the sequence says itself. greedy: its answer instead of its probability.
    """
    code_BD = tensors[CODE].float()
    part = {name.removeprefix(_PREFIX): value[0] for name, value in tensors.items() if name.startswith(_PREFIX)}
    order, embedding = part["order"], part["absent"].shape[1]
    told_BL = None if said_BL is None else said_BL.index_select(1, order).to(code_BD)
    hidden_BH = torch.tanh(linear(code_BD, part["first_hidden.weight"], part["first_hidden.bias"]))
    cell_BH = linear(code_BD, part["first_cell.weight"], part["first_cell.bias"])
    of_code, of_word = part["lstm.weight_ih"][:, :-embedding], part["lstm.weight_ih"][:, -embedding:]
    # The image code comes in at every step, so its share of the gates is computed once.
    by_code_B4 = linear(code_BD, of_code, part["lstm.bias_ih"] + part["lstm.bias_hh"])
    word_B4: Tensor | float = 0.0  # nothing was said yet
    logits = []
    for step in range(len(order)):
        gates_B4 = by_code_B4 + word_B4 + linear(hidden_BH, part["lstm.weight_hh"])
        into, forget, new, out = gates_B4.chunk(4, dim=1)
        cell_BH = forget.sigmoid() * cell_BH + into.sigmoid() * new.tanh()
        hidden_BH = out.sigmoid() * cell_BH.tanh()
        logit_B = hidden_BH @ part["out.weight"][step] + part["out.bias"][step]
        logits.append(logit_B)
        if step + 1 < len(order):
            said_B = (logit_B > 0).to(logit_B) if greedy else logit_B.sigmoid()
            if told_BL is not None:
                told_B = told_BL[:, step]
                said_B = torch.where(told_B == told_B, told_B, said_B)
            absent, present = part["absent"][step], part["present"][step]
            word_B4 = linear(absent + said_B[:, None] * (present - absent), of_word)
    return torch.stack(logits, dim=1).index_select(1, order.argsort())
