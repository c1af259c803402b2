import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.trainers.pytorch import batching
from tune_jobs.trainers.pytorch.batching import Batches, block_rows, draw_order
from tune_jobs.trainers.pytorch.tensors import TensorRows

sizes = st.integers(1, 40)


def rows_of(n, width=3):
    x = torch.arange(n, dtype=torch.float32).unsqueeze(1).expand(n, width).contiguous()
    return TensorRows(x, torch.arange(n))


@given(n=sizes, batch_size=sizes, seed=st.integers(-(2**70), 2**70))
@settings(max_examples=60, deadline=None)
def test_without_replacement_an_epoch_holds_each_row_once_with_its_own_target(n, batch_size, seed):
    batches = Batches(rows_of(n), "shuffle", batch_size, seed)
    for _ in range(2):
        epoch = list(batches.epoch())
        assert len(epoch) == batches.steps == -(-n // min(batch_size, n))
        assert [len(x) for x, _ in epoch[:-1]] == [batches.batch_size] * (len(epoch) - 1)
        assert sorted(torch.cat([y for _, y in epoch]).tolist()) == list(range(n))
        assert all(torch.equal(x[:, 0].long(), y) for x, y in epoch)


def test_small_blocks_give_the_batches_of_one_large_block(monkeypatch):
    def epoch():
        return [y.tolist() for _, y in Batches(rows_of(50), "shuffle", 4, 0).epoch()]

    whole = epoch()
    monkeypatch.setattr(batching, "_CPU_BLOCK", 10 * 3 * 4)
    assert block_rows(rows_of(50).x) == 10
    assert epoch() == whole


def test_shuffled_epochs_differ_and_seeds_matter():
    def epochs(seed):
        batches = Batches(rows_of(30), "shuffle", 7, seed)
        return [[y.tolist() for _, y in batches.epoch()] for _ in range(2)]

    first, second = epochs(0)
    assert first != second
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first


def test_with_replacement_rows_repeat_and_each_is_as_likely_as_any():
    order = draw_order(50_000, "replacement", torch.Generator().manual_seed(0))
    counts = np.bincount(np.bincount(order.numpy(), minlength=50_000))
    # Poisson with mean 1: a share of e**-1 of the rows is left out, the same share comes once, and half of it twice.
    assert counts[:3] / 50_000 == pytest.approx([0.3679, 0.3679, 0.1839], abs=0.01)


def test_sequential_keeps_the_order():
    epoch = list(Batches(rows_of(5), "sequential", 2, 0).epoch())
    assert [y.tolist() for _, y in epoch] == [[0, 1], [2, 3], [4]]


def test_the_global_generator_is_not_touched():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(Batches(rows_of(9), "shuffle", 2, 5).epoch())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("batch_size", [2, "full"])
def test_batches_can_be_written_to(batch_size):
    rows = rows_of(5)
    weight = torch.ones(3, requires_grad=True)
    for x, y in Batches(rows, "sequential", batch_size, 0).epoch():
        x.mul_(weight).sum().backward()  # autograd forbids this on views of a `split`
        y.zero_()
    assert torch.equal(rows.y, torch.arange(5))
    assert torch.equal(rows.x, rows_of(5).x)
    assert weight.grad.tolist() == [10.0, 10.0, 10.0]


def test_all_blocks_of_an_epoch_lie_in_one_place(monkeypatch):
    monkeypatch.setattr(batching, "_CPU_BLOCK", 4 * 3 * 4)
    batches = Batches(rows_of(18), "shuffle", 4, 0)
    assert len({x.data_ptr() for x, _ in batches.epoch()}) == 1
