"""The two passes of top-down feedback, and every kind of mask network, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.errors import DataError
from fusionkit.nn import FeedbackMask, LengthAwareRNN, resample, run_together
from fusionkit.nn.feedback import MaskKind
from fusionkit.nn.top_down import TopDownFeedback

SIZES = {"text": 6, "audio": 4, "vision": 1}
SOURCE = 10
KINDS: list[MaskKind] = ["lstm", "linear", "boom", "downup"]
Sequences = dict[str, Tensor]


def sequences(lengths: Mapping[str, list[int]], seed: int = 0) -> tuple[Sequences, Sequences]:
    generator = torch.Generator().manual_seed(seed)
    features, found = {}, {}
    for name, size in SIZES.items():
        n = torch.tensor(lengths[name])
        x = torch.randn(len(n), int(n.max()), size, generator=generator)
        features[name] = x * (torch.arange(x.shape[1]) < n[:, None])[..., None]
        found[name] = n
    return features, found


ALIGNED = {name: [5, 3, 7] for name in SIZES}
UNALIGNED = {"text": [4, 6, 2], "audio": [9, 12, 5], "vision": [3, 3, 8]}


class Encoders(nn.ModuleDict):
    """One linear layer a modality; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__({name: nn.Linear(size, SOURCE) for name, size in SIZES.items()})
        self.seen: list[Sequences] = []

    def forward(self, inputs: Mapping[str, Tensor]) -> Sequences:
        self.seen.append(dict(inputs))
        return {name: layer(inputs[name]).tanh() for name, layer in self.items()}


def made(**options: Any) -> tuple[Any, Encoders]:
    torch.manual_seed(0)
    return TopDownFeedback(SIZES, SOURCE, **options).eval(), Encoders()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_aligned_passes_by_hand(kind: MaskKind, own: bool, scale: float) -> None:
    feedback, encoders = made(kind=kind, includes_own=own, scale=scale, aligned=True)
    inputs, lengths = sequences(ALIGNED)
    output = feedback(encoders, inputs, lengths)
    first = encoders(inputs)
    for name in SIZES:
        sources = [first[k] for k in SIZES if own or k != name]
        gates = feedback[name].gates
        assert len(gates) == len(sources)
        logits = [
            gate(h, lengths[name])[0] if kind == "lstm" else gate(h)
            for gate, h in zip(gates, sources)
        ]
        mask = torch.stack([z.sigmoid() for z in logits]).mean(dim=0)
        want = scale * inputs[name] * mask
        assert torch.allclose(encoders.seen[1][name], want, atol=1e-6), name
        assert torch.allclose(output[name], encoders[name](want).tanh(), atol=1e-6)
        shown = feedback.masks(first, lengths)[name]
        valid = (torch.arange(7) < lengths[name][:, None])[..., None]
        assert torch.allclose(shown, mask * valid, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_unaligned_sources_come_onto_the_axis_of_what_they_mask(kind: MaskKind) -> None:
    feedback, encoders = made(kind=kind, includes_own=True)
    inputs, lengths = sequences(UNALIGNED)
    output = feedback(encoders, inputs, lengths)
    first = encoders(inputs)
    for name in SIZES:
        sources = [
            first[k] if k == name else resample(first[k], lengths[k], lengths[name]) for k in SIZES
        ]
        want = feedback[name](inputs[name], sources, lengths[name])
        assert torch.allclose(encoders.seen[1][name], want, atol=1e-6), name
        assert output[name].shape == first[name].shape


@pytest.mark.parametrize("kind", KINDS)
def test_unaligned_samples_depend_on_nothing_but_themselves(kind: MaskKind) -> None:
    feedback, encoders = made(kind=kind, includes_own=True)
    inputs, lengths = sequences(UNALIGNED)
    output = feedback(encoders, inputs, lengths)
    padded = {
        name: torch.nn.functional.pad(x, (0, 0, 0, 3), value=7.0) for name, x in inputs.items()
    }
    longer = feedback(encoders, padded, lengths)
    for row in range(3):
        own = {name: n[row : row + 1] for name, n in lengths.items()}
        alone = feedback(
            encoders, {name: x[row : row + 1, : own[name]] for name, x in inputs.items()}, own
        )
        for name in SIZES:
            n = int(own[name])
            assert torch.allclose(alone[name][0], output[name][row, :n], atol=1e-5), (row, name)
            assert torch.allclose(longer[name][row, :n], output[name][row, :n], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_both_paths_agree_on_aligned_data(kind: MaskKind) -> None:
    feedback, encoders = made(kind=kind, aligned=True)
    other = made(kind=kind, aligned=False)[0]
    other.load_state_dict(feedback.state_dict())
    inputs, lengths = sequences(ALIGNED)
    one, two = (f(encoders, inputs, lengths) for f in (feedback, other))
    for name in SIZES:
        assert torch.allclose(one[name], two[name], atol=1e-5)


def test_mask_lstms_of_aligned_data_run_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(rnns: Sequence[LengthAwareRNN], *rest: Any) -> list[Tensor]:
        calls.append(len(rnns))
        return run_together(rnns, *rest)

    monkeypatch.setattr("fusionkit.nn.top_down.run_together", counted)
    feedback, encoders = made(aligned=True)
    feedback(encoders, *sequences(ALIGNED))
    assert calls == [6]


def test_gradients_flow_through_both_passes() -> None:
    feedback, encoders = made(aligned=True)
    inputs, lengths = sequences(ALIGNED)
    feedback(encoders, inputs, lengths)["text"].sum().backward()
    # The second encoding of the text sees the audio through the text's mask alone.
    audio: Any = encoders["audio"]
    assert audio.weight.grad.any()
    assert feedback["text"].gates[0].weight_ih_l0.grad.any()
    elsewhere = feedback["audio"].gates[0].weight_ih_l0.grad
    assert elsewhere is None or not elsewhere.any()


def test_sizes_of_the_mask_networks() -> None:
    def shapes(kind: MaskKind, source: int) -> list[tuple[int, ...]]:
        block = FeedbackMask(3, source, 1, kind=kind)
        return [tuple(p.shape) for p in block.parameters() if p.dim() == 2]

    assert shapes("lstm", 100) == [(12, 100), (12, 3)]
    assert shapes("linear", 100) == [(3, 100)]
    assert shapes("boom", 100) == [(200, 100), (3, 200)]
    assert shapes("downup", 100) == [(20, 100), (3, 20)]
    assert shapes("downup", 4) == [(1, 4), (3, 1)]


@pytest.mark.parametrize("kind", ["boom", "downup"])
def test_two_layer_masks_have_gelu_and_dropout_between(kind: MaskKind) -> None:
    torch.manual_seed(0)
    block: Any = FeedbackMask(3, SOURCE, 1, kind=kind, mask_dropout=0).eval()
    h = torch.randn(2, 5, SOURCE)
    first, last = (layer for layer in block.gates[0] if isinstance(layer, nn.Linear))
    want = last(nn.functional.gelu(first(h)))
    assert torch.allclose(block.gate_logits([h], None)[0], want, atol=1e-6)
    block.train()
    assert not torch.equal(block.gate_logits([h], None)[0], block.gate_logits([h], None)[0])
    calm: Any = FeedbackMask(3, SOURCE, 1, kind=kind, dropout=0).train()
    assert torch.equal(calm.gate_logits([h], None)[0], calm.gate_logits([h], None)[0])


@pytest.mark.parametrize(("kind", "p"), [("lstm", 0.1), ("linear", 0.0), ("boom", 0.2)])
def test_default_dropout_of_a_mask_network(kind: MaskKind, p: float) -> None:
    block: Any = FeedbackMask(3, SOURCE, 1, kind=kind)
    found = block.dropout.p if kind != "boom" else block.gates[0][2].p
    assert found == p


def test_masks_of_lstms_stay_near_one_half() -> None:
    feedback, _ = made(aligned=True)
    lengths = sequences(ALIGNED)[1]
    encoded = {name: 1e3 * torch.randn(3, 7, SOURCE) for name in SIZES}
    for name, mask in feedback.masks(encoded, lengths).items():
        valid = torch.arange(7) < lengths[name][:, None]
        assert ((mask[valid] > 0.268) & (mask[valid] < 0.732)).all()
        assert not mask[~valid].any()


def test_one_modality_needs_its_own_encoding() -> None:
    with pytest.raises(DataError, match="at least 2 modalities"):
        TopDownFeedback({"text": 3}, 4)
    feedback: Any = TopDownFeedback({"text": 3}, 4, includes_own=True)
    assert len(feedback["text"].gates) == 1


def test_a_modality_cannot_be_called_masks() -> None:
    with pytest.raises(DataError, match="'masks' has another meaning"):
        TopDownFeedback({"text": 3, "masks": 2}, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_on_aligned_data(kind: MaskKind) -> None:
    feedback, encoders = made(kind=kind, aligned=True)
    layers: Any = dict(encoders.items())

    def run(inputs: Sequences, lengths: Sequences) -> Sequences:
        def encode(x: Mapping[str, Tensor]) -> Sequences:
            return {name: layer(x[name]).tanh() for name, layer in layers.items()}

        return dict(feedback(encode, inputs, lengths))

    inputs, lengths = sequences(ALIGNED)
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(run, backend="eager", fullgraph=True)(inputs, lengths)
        for name, want in run(inputs, lengths).items():
            assert torch.allclose(compiled[name], want, atol=1e-6)
