"""Take the last token of each sample: the one that the head reads, or else the one before the padding.

In: the inputs of a batch and sequences of token states. Out: one row a sample. A sequence is met before the head picks
its token, so that the rows of all positions at which tokens may end are kept until then. The only file that knows what
marks padding.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ncscan.activations.tracing.record import tensors_in
from ncscan.data import Inputs
from ncscan.errors import TapError

MASK = "attention_mask"
"""The name that models which take named inputs have for their padding mask."""
USUAL = 0
"""The number of the padding token that is tried beside those that a model's configuration names."""


def padding_of(model: nn.Module) -> tuple[int, ...]:
    """Return the numbers of padding tokens that the configurations of a model name."""
    named = [getattr(getattr(module, "config", None), "pad_token_id", None) for module in model.modules()]
    return tuple(dict.fromkeys(each for each in named if isinstance(each, int)))


def ends(inputs: Inputs, padding: Sequence[int], n_positions: int) -> list[torch.Tensor]:
    """Return the positions (n,) at which the tokens of each sample may end, those by a mask first, each once.

    Args:
        inputs: of a batch; a mask and token numbers among them count where they have as many positions, and lengths.
        padding: the numbers that may stand for padding.
        n_positions: how many positions there are.

    >>> ids = torch.tensor([[5, 7, 0, 0], [0, 0, 3, 9]])
    >>> [each.tolist() for each in ends(ids, (0,), 4)]
    [[1, 3], [3, 3]]
    """
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    found = [_last(named[MASK] != 0)] if MASK in named and named[MASK].shape[1:] == (n_positions,) else []
    for name, values in named.items():
        is_ids = name != MASK and not values.is_floating_point() and values.dtype != torch.bool
        if is_ids and values.shape[1:] == (n_positions,):
            found += [_last(values != pad) for pad in padding]
        elif is_ids and values.ndim == 1 and padding:
            found.append(values.long() - 1)
    first = next(tensors_in(inputs))
    found.append(torch.full((len(first),), n_positions - 1, device=first.device))
    return [each for i, each in enumerate(found) if not any(torch.equal(each, other) for other in found[:i])]


def _last(keep: torch.Tensor) -> torch.Tensor:
    """Return the last position at which each row is true; the last of all where none is."""
    return keep.shape[1] - 1 - keep.flip(1).int().argmax(1)


class LastTokens:
    """The last tokens of one pass."""

    def __init__(self, padding: Sequence[int], n_positions: int, *, is_seen: bool) -> None:
        """Prepare for the passes of a model.

        Args:
            padding: the numbers that stand for padding.
            n_positions: of the sequence of which the head reads the last position itself; 0 where it reads none.
            is_seen: whether the pass shows which position that is; it is the very last one otherwise.
        """
        self._padding, self._n_positions, self._is_seen = padding, n_positions, is_seen
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._picked: torch.Tensor | None = None

    def take(self, i: int, rows: torch.Tensor, inputs: Inputs) -> torch.Tensor | None:
        """Take a sequence (n, positions, d); return its last tokens where they are known, else keep what may be."""
        n_positions, each = rows.shape[1], torch.arange(len(rows), device=rows.device)
        if n_positions != self._n_positions:
            at = ends(inputs, self._padding, n_positions)[0]
        elif not self._is_seen:
            at = torch.full_like(each, n_positions - 1)
        else:
            possible = torch.stack(ends(inputs, (*self._padding, USUAL), n_positions), dim=1).to(rows.device)
            self._kept[i] = possible, rows[each[:, None], possible.clamp(0, n_positions - 1)]
            return None
        return rows[each, at.to(rows.device)]

    def see(self, positions: torch.Tensor) -> None:
        """Learn which position (n,) of each sample the head reads."""
        self._picked = positions

    def end(self) -> dict[int, torch.Tensor]:
        """Return the rows of the tokens that the head read, by the number of the sequence.

        Raises: TapError when it read one at none of the places where tokens may end.
        """
        found = {}
        for i, (possible, rows) in self._kept.items():
            if self._picked is None:
                raise TapError("the head read no token in this pass, as it did when it was traced")
            hits = possible == self._picked.to(possible.device)[:, None]
            if not hits.any(dim=1).all():
                row = int((~hits.any(dim=1)).int().argmax())
                where = " or ".join(map(str, possible[row].tolist()))
                said = f"the head reads position {int(self._picked[row])} of sample {row} of a batch"
                raise TapError(f"{said}, where its tokens end at {where}: choose a --reduction yourself")
            found[i] = rows[torch.arange(len(rows), device=rows.device), hits.int().argmax(dim=1)]
        self.clear()
        return found

    def clear(self) -> None:
        """Forget what was taken."""
        self._kept.clear()
        self._picked = None
