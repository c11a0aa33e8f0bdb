"""Make tensors of the bytes of a file.

In: the bytes of each storage, and views as a pickle describes them. Out: tensors of exactly those bytes: a view that
reaches beyond its storage, or a storage of another size than its bytes, is refused.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence

import torch

from ncscan.pickles import BadPickle, NumpyArray, Storage, View

Bytes = bytes | memoryview


class Storages:
    """The bytes that tensors are views of, each copied into memory once.

    Args:
        stored: gives the bytes of a storage by its key.
        pieces: bytes that lie in the pickle itself, with the keys `#0`, `#1`, ….
        little_endian: whether the lowest byte of a number comes first.
    """

    def __init__(
        self, stored: Callable[[str], Bytes], pieces: Sequence[bytes] = (), *, little_endian: bool = True
    ) -> None:
        self._stored = stored
        self._pieces = pieces
        self._loaded: dict[str, torch.UntypedStorage] = {}
        self._foreign_order = little_endian != (sys.byteorder == "little")

    def array(self, array: NumpyArray) -> torch.Tensor:
        """Return a tensor of a NumPy array's bytes."""
        dtype = getattr(torch, array.dtype)
        copied = torch.empty(len(self._bytes(array.key)), dtype=torch.uint8)
        copied.numpy()[:] = memoryview(self._bytes(array.key))
        if array.big_endian != (sys.byteorder == "big"):
            copied.untyped_storage().byteswap(dtype)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        shape = array.shape[::-1] if array.fortran else array.shape
        tensor = copied.view(dtype).reshape(shape)
        return tensor.permute(*reversed(range(len(shape)))) if array.fortran else tensor

    def _bytes(self, key: str) -> Bytes:
        if not key.startswith("#"):
            return self._stored(key)
        place = int(key[1:]) if key[1:].isdigit() else len(self._pieces)
        if place >= len(self._pieces):
            raise BadPickle(f"lacks the bytes {key!a:.60}; is it damaged?")
        return self._pieces[place]

    def tensor(self, view: View) -> torch.Tensor:
        """Return the tensor of a view on its storage; tied ones share it, as when torch loads them."""
        dtype = getattr(torch, view.dtype)
        storage = self._storage(view.storage)
        count = math.prod(view.shape)
        last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
        # Python's integers do not overflow, torch's do.
        if (count and (last + 1) * dtype.itemsize > storage.nbytes()) or count * dtype.itemsize >= 2**63:
            raise BadPickle(
                f"describes a tensor of shape {shape_words(view.shape)} that reaches beyond the {storage.nbytes():,} "
                "bytes of its storage; is it damaged?"
            )
        tensor = torch.empty(0, dtype=dtype).set_(storage, view.offset, view.shape, view.strides)
        if view.conjugate and dtype.is_complex:
            tensor = tensor.conj()
        return torch._neg_view(tensor) if view.negative else tensor

    def _storage(self, described: Storage) -> torch.UntypedStorage:
        dtype = getattr(torch, described.dtype)
        if described.key not in self._loaded:
            stored = self._bytes(described.key)
            copied = torch.empty(len(stored), dtype=torch.uint8)
            copied.numpy()[:] = memoryview(stored)
            self._loaded[described.key] = storage = copied.untyped_storage()
            if self._foreign_order:
                storage.byteswap(dtype)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        storage = self._loaded[described.key]
        if described.n_elements * dtype.itemsize != storage.nbytes():
            raise BadPickle(
                f"describes a storage of {described.n_elements} × {dtype.itemsize} bytes where {storage.nbytes():,} "
                "are stored; is it damaged?"
            )
        return storage


def shape_words(sizes: Iterable[int]) -> str:
    """Return a shape for a message, cut where it is long.

    >>> shape_words((64, 3, 7, 7))
    '64×3×7×7'
    """
    return "×".join(map(str, sizes))[:100]
