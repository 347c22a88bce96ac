"""What each of two processes runs for the tests of DDP and FSDP2: `python distributed_training.py KIND STORE RANK`."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist


class Small(torch.nn.Module):
    """Code of a user: forwards of torch.nn itself Dynamo does not capture where DDP calls them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(6, 8), torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.nn.functional.gelu(self.first(x)))


def steps(call, model, rank: int) -> torch.Tensor:
    """Two steps of training on this process's half of the data; all weights at the end."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.linspace(-2, 2, 48).view(8, 6)[rank * 4 : rank * 4 + 4]
    for _ in range(2):
        optimizer.zero_grad()
        call(data).square().mean().backward()
        optimizer.step()
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return torch.cat([p.detach().flatten() for p in whole])


def wrapped(kind: str) -> torch.nn.Module:
    if kind == "ddp":
        return torch.nn.parallel.DistributedDataParallel(Small())
    from torch.distributed.fsdp import fully_shard

    model = Small()
    fully_shard(model.first)
    fully_shard(model)
    return model


def main(kind: str, store: str, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    eager, model = wrapped(kind), wrapped(kind)
    compiled = torch.compile(model, backend="tilewright")
    finals = [steps(eager, eager, rank), steps(compiled, model, rank)]
    torch.testing.assert_close(finals[1], finals[0], rtol=1e-5, atol=1e-6)
    from tilewright.backend import compilations

    assert any(made.kernels for made in compilations())
    dist.destroy_process_group()
    print("the same", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
