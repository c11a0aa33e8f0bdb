"""The bytes of a torch.save archive → tensors.

In: the members of an archive, and views as pickle_calls.py describes them. Out: tensors of exactly those bytes: a view
that reaches beyond its storage, or a storage of another size than its member, is refused.
"""

import math
import sys
from collections.abc import Iterable, Mapping

import torch

from ncscan.checkpoints.formats.pickle_values import BadPickle, Storage, View
from ncscan.files import zip_archive


class Storages:
    """The members of a torch.save archive that hold bytes of tensors, each copied into memory once."""

    def __init__(self, data: bytes, members: Mapping[str, zip_archive.Member]) -> None:
        self._data = data
        self._members = members
        self._loaded: dict[str, torch.UntypedStorage] = {}
        order = bytes(self.member("byteorder")) if "byteorder" in members else b"little"
        if order not in (b"little", b"big"):
            raise zip_archive.BadArchive(f"has bytes in an unknown order ({order!a:.40})")
        self._foreign_order = order.decode() != sys.byteorder

    def member(self, name: str) -> memoryview:
        if name not in self._members:
            raise zip_archive.BadArchive(f"lacks {name!a:.100}; is it damaged?")
        return zip_archive.read(self._data, self._members[name])

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
            stored = self.member(f"data/{described.key}")
            copied = torch.empty(len(stored), dtype=torch.uint8)
            copied.numpy()[:] = stored
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
