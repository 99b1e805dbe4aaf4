"""What tests/test_gradient_exchange.py runs in three processes: torchrun --nproc_per_node 3 three_processes.py."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from same_run import assert_close, gradient_bound
from torch.nn.parallel import DistributedDataParallel

from mlm_recipes.training.distributed.gradient_exchange import GradientExchange, average_gradients
from mlm_recipes.training.distributed.processes import leave_process_group


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(6)))
        self.sometimes, self.never = torch.nn.Parameter(torch.ones(16)), torch.nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).tanh() + (self.sometimes if dist.get_rank() == 1 else 0)


def main() -> None:
    torch.manual_seed(0)
    models = [Model()]
    models += [copy.deepcopy(models[0]) for _ in range(2)]
    plain, ours = (DistributedDataParallel(m, bucket_cap_mb=0.001, find_unused_parameters=True) for m in models[:2])
    exchange = GradientExchange(ours)
    torch.manual_seed(dist.get_rank())
    for _ in range(3):
        x = torch.randn(8, 16)
        exchange.begin()
        for model in (plain, ours, models[2]):
            model.zero_grad()
            model(x).square().sum().backward()
        average_gradients(models[2])
        for expected, *found in zip(*(model.parameters() for model in models), strict=True):
            for each in found:
                assert (each.grad is None) == (expected.grad is None)
                if expected.grad is not None:
                    assert_close(each.grad, expected.grad, gradient_bound(models[0]))
            assert expected.grad is None or torch.equal(found[0].grad, expected.grad)  # to the last bit
        for model in models:
            assert model.never.grad is None
            assert model.sometimes.grad is not None
    exchange.end()
    ours.module(x).sum().backward()  # nothing is sent any more


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main()
    leave_process_group()
