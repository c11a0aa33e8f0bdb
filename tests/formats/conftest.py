"""Tests with the libraries that people save checkpoints with: `make test-formats`, not part of `make test`."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the libraries warn as they like: here their files are looked at."""
    for item in items:
        if item.path.parent.name == "formats":
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session", autouse=True)
def _operators_of_torchvision() -> None:
    """Define the operators that torchvision registers only with the torch that it was built for; none is called."""
    import torch

    arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + arguments)  # type: ignore[no-untyped-call]
    globals()["_library"] = library  # it goes with the object
