"""Automatic differentiation from several tensors with given gradients."""

from __future__ import annotations

import sys

import pytest
import torch

from elboverse.training.seeded import backward_from


def test_gradients_are_those_of_torch_and_no_computer_algebra_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for differentiate in (
        lambda pairs: torch.autograd.backward([tensor for tensor, _ in pairs], [given for _, given in pairs]),
        backward_from,
    ):
        leaf = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
        differentiate([(leaf.exp(), leaf.detach() + 2), (leaf.square().sum(), torch.tensor(0.5, dtype=torch.float64))])
        found.append(leaf.grad)
        monkeypatch.setitem(sys.modules, "torch.fx.experimental.symbolic_shapes", None)  # its import would now fail
    assert torch.equal(found[0], found[1])


def test_tensors_that_need_no_gradient_are_left_out() -> None:
    leaf = torch.ones(3, requires_grad=True)
    backward_from([(torch.ones(2), torch.ones(2)), (2 * leaf, torch.ones(3))])
    assert torch.equal(leaf.grad, torch.full((3,), 2.0))
    backward_from([(torch.ones(2), torch.ones(2))])
