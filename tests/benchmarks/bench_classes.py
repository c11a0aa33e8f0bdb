"""What many classes cost: python tests/benchmarks/bench_classes.py [K …]

For each K, 5 samples a class of 512 features around random means. `ncscan.measure` of them with a classifier of K rows;
`ncscan report` of a dump that `ncscan extract` made, of the two layers of 512 features that a linear head of two maps
reads. CPU seconds with one thread a library, and the largest memory of each process, imports included; K = 10 shows
what is left with few classes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

D, PER_CLASS = 512, 5
DEFAULT = (10, 100, 1_000, 3_000, 10_000)

MEASURE = """
import sys, numpy as np, ncscan
data = np.load(sys.argv[1])
print(len(ncscan.measure(data["x"], data["y"], weight=data["w"])))
"""

TOML = """[model]
source = "mlp"
activation = "relu"
linear_head = 2
[data]
source = "npz:../data.npz"
"""


def spent(*command: str, cwd: Path) -> tuple[float, float]:
    """CPU seconds and MB of a process: other work beside it changes wall time, hardly these."""
    with (cwd / "stderr").open("w+") as stderr:
        process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        assert process.returncode == 0, stderr.read()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def prepared(folder: Path, K: int) -> None:
    """Data and a checkpoint whose classifier points at the means of what it reads."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(K), PER_CLASS)
    means = rng.standard_normal((K, D), dtype=np.float32)
    x = means[y] + 0.5 * rng.standard_normal((len(y), D), dtype=np.float32)
    weight = (means - means.mean(axis=0)) / np.sqrt(D)
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "measured.npz", x=x, y=y, w=weight)
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "ncscan.toml").write_text(TOML, encoding="utf-8")
    torch.manual_seed(0)
    first, second = (torch.linalg.qr(torch.randn(D, D))[0] for _ in range(2))
    inner = torch.relu(torch.from_numpy(means) @ first.T) @ second.T
    state = {"0.weight": first, "1.weight": second, "2.weight": (inner - inner.mean(dim=0)) / D**0.5}
    torch.save(state, folder / "ckpts" / "step_1.pt")


def main() -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    sizes = [int(argument) for argument in sys.argv[1:]] or DEFAULT
    ncscan = (sys.executable, "-c", "from ncscan.cli import main; main()")
    print("| K | samples | measure: CPU s | MB | report: CPU s | MB |\n|---|---|---|---|---|---|", flush=True)
    for K in sorted(sizes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepared(folder, K)
            measured = spent(sys.executable, "-c", MEASURE, "measured.npz", cwd=folder)
            subprocess.run(
                [*ncscan, "extract", "ckpts", "--layers", "0_relu", "--layers", "1"],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            reported = spent(*ncscan, "report", cwd=folder)
            cells = (f"{seconds:.1f} | {megabytes:,.0f}" for seconds, megabytes in (measured, reported))
            print(f"| {K:,} | {K * PER_CLASS:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
