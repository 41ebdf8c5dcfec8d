"""What whole models are timed against: the same numbers, and nothing left behind."""

from __future__ import annotations

import pytest
import torch

from fusionkit.bench.cases.model import suite
from fusionkit.bench.correctness import Truth, prepare_checked
from fusionkit.bench.plain_backends import plain_pytorch
from fusionkit.nn import LengthAwareRNN
from fusionkit.ops import available_backends, cross_attention, force_backend, gated_mask

QUERY, KEY = torch.randn(2, 3, 1, 4, 5, generator=torch.Generator().manual_seed(0)).unbind()
LENGTHS = torch.tensor([4, 2, 3])


def test_plain_backends_go_away() -> None:
    before = available_backends()
    with plain_pytorch(padded=False):
        assert available_backends()["cross_attention"][0].name == "plain"
    assert available_backends() == before
    with pytest.raises(RuntimeError), plain_pytorch(padded=True):
        raise RuntimeError
    assert available_backends() == before


def test_masked_plain_attention_is_the_operator() -> None:
    expected = cross_attention(QUERY, KEY, KEY, key_lengths=LENGTHS, query_lengths=LENGTHS)
    with plain_pytorch(padded=False):
        found = cross_attention(QUERY, KEY, KEY, key_lengths=LENGTHS, query_lengths=LENGTHS)
    torch.testing.assert_close(found, expected)


def test_padded_plain_attention_has_no_mask() -> None:
    with plain_pytorch(padded=True):
        found = cross_attention(QUERY, KEY, KEY, key_lengths=LENGTHS, query_lengths=LENGTHS)
    torch.testing.assert_close(found, cross_attention(QUERY, KEY, KEY))


def test_plain_dropout_is_torchs_own() -> None:
    x = torch.ones(1, 50, 40)
    with plain_pytorch(padded=False):
        torch.manual_seed(0)
        one = gated_mask(x, [x], dropout_p=0.5, seed=1)
        other = gated_mask(x, [x], dropout_p=0.5, seed=1)
    assert not torch.equal(one, other)
    assert 0.4 < (one == 0).double().mean() < 0.6


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_padded_lstm_runs_over_the_padding(cell: str) -> None:
    torch.manual_seed(0)
    rnn = LengthAwareRNN(5, 3, bidirectional=True, cell=cell)  # type: ignore[arg-type]
    x = QUERY[:, 0]
    with plain_pytorch(padded=True):
        output, _ = rnn(x, LENGTHS)
    with force_backend("reference"):
        torch.testing.assert_close(output, rnn(x, None)[0])
    assert output[1, -1].abs().max() > 0


@pytest.mark.parametrize("case", [c for c in suite().cases if c.quick], ids=lambda c: c.title)
def test_contenders_of_a_small_case_agree(case: object) -> None:
    truth = Truth(case)  # type: ignore[arg-type]
    for contender in truth.case.contenders:
        for phase in truth.case.phases:
            _, check = prepare_checked(contender, phase, truth)
            assert check is not None
            assert check.share <= 1.0


def test_the_padded_contender_is_comparable_at_full_lengths_only() -> None:
    padded = {
        case.variant: contender.not_comparable
        for case in suite().cases
        for contender in case.contenders
        if contender.name == "plain, padded"
    }
    assert padded == {"full": "", "70 %": "it computes over the padding"}
