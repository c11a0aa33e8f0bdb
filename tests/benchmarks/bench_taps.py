"""What following a pass costs: every tap reduced by `mean`, over a bare pass of the same model.

Run by hand on a calm machine: `python tests/benchmarks/bench_taps.py [threads [rounds]]`. Bare and followed passes
alternate, so that a busy machine slows both; the figure is the median of the ratios of neighbours. At most 1.15 is
wanted for `all`. Bare passes run on a copy of the model, which carries no hooks.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import networks

from ncscan.activations.tracer import Trace, reduce, trace, watch
from ncscan.layer_graph import Tap, select

BATCH = 200


def mlp() -> nn.Module:
    """Nine dense layers of 512: six with ReLU, then a linear head of three."""
    parts: list[nn.Module] = [nn.Linear(784, 512), nn.ReLU()]
    for _ in range(5):
        parts += [nn.Linear(512, 512), nn.ReLU()]
    parts += [nn.Linear(512, 512, bias=False), nn.Linear(512, 512, bias=False), nn.Linear(512, 10, bias=False)]
    return nn.Sequential(*parts)


def resnet18() -> nn.Module:
    return networks.ResNet((64, 128, 256, 512), blocks=2, classes=10)


def seconds(work: Callable[[], object]) -> float:
    # One thread's own time does not grow when others use the machine.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def ratios(
    model: nn.Module, traced: Trace, inputs: torch.Tensor, selections: Sequence[tuple[Tap, ...]], rounds: int
) -> list[list[float]]:
    """For each selection, followed over bare, once a round."""

    twin = deepcopy(model)

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return torch.as_tensor(twin(inputs))

    found = []
    for taps in selections:
        kept: dict[int, torch.Tensor] = {}

        def keep(
            i: int, value: torch.Tensor, taps: tuple[Tap, ...] = taps, kept: dict[int, torch.Tensor] = kept
        ) -> None:
            kept[i] = reduce(value, taps[i], "mean")

        with watch(model, traced, taps, keep) as forward:
            forward(inputs)
            column = []
            for _ in range(rounds):
                before = seconds(bare)
                middle = seconds(partial(forward, inputs))
                column.append(2 * middle / (before + seconds(bare)))
        found.append(column)
    return found


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    cases = (
        ("MLP, 9 layers of 512", mlp, (784,), rounds * 8),
        ("ResNet-18, 32×32", resnet18, (3, 32, 32), max(3, rounds // 3)),
    )
    print(f"batch {BATCH}, {torch.get_num_threads()} threads; followed / bare, median (quartiles)")
    for name, build, shape, n_rounds in cases:
        torch.manual_seed(0)
        model, inputs = build().eval(), torch.randn(BATCH, *shape)
        start = time.perf_counter()
        traced = trace(model, inputs[:3])
        took = time.perf_counter() - start
        words = ("input", "all", "every")
        selections = [select(traced.graph, [word]) for word in words]
        for word, taps, found in zip(
            words, selections, ratios(model, traced, inputs, selections, n_rounds), strict=True
        ):
            low, median, high = statistics.quantiles(found, n=4)
            print(f"{name:22} {word:6} {len(taps):3} taps  {median:.3f} ({low:.3f}-{high:.3f})  traced in {took:.2f} s")


if __name__ == "__main__":
    main()
