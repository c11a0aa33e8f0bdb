"""Read pickles in a process of their own, one after the other: the end of the pipe that does the work.

In: requests on standard input. Out: answers on standard output, each after its length. The process takes no more memory
and time for a pickle than it is given, and holds nothing that a file could be after: no tensors, no model, no torch.
"""

import signal
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO

import msgspec

from ncscan.pickles.arrays import FORMATS, element
from ncscan.pickles.content import Content, understand, understand_value
from ncscan.pickles.distributed import Distributed, understand_distributed
from ncscan.pickles.interpreter import interpret
from ncscan.pickles.notes import Note
from ncscan.pickles.script import understand_script
from ncscan.pickles.stream import SIZES, read_stream
from ncscan.pickles.values import BadPickle, Context, View

LENGTH = 8
"""Bytes that give the length of a message."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A pickle that is to be read."""

    reading: str
    """What is to be made of it: a row of `READINGS`."""
    pickle: bytes
    small: dict[str, bytes]
    """The storages of few bytes, by key: the numbers among the notes lie in them."""
    big_endian: bool
    """Whether the first byte of a number in these is the highest."""
    memory: int
    """Bytes of address space that the process may have meanwhile."""
    seconds: int
    """Seconds of the processor that it may take."""


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Why nothing was made of a pickle."""

    reason: str


def _whole(pickle: bytes, context: Context) -> object:
    """Return the content of a pickle that nothing follows."""
    content, end = interpret(pickle, context)
    if end != len(pickle):
        raise BadPickle("holds a pickle with something behind its end")
    return content


def of_archive(request: Request) -> Content:
    """Read the pickle of a torch.save archive, whose storages are other members."""
    context = Context(len(request.pickle))
    content = _whole(request.pickle, context)
    return understand(content, context, _numbers(request.small, context, big_endian=request.big_endian))


def of_value(request: Request) -> Content:
    """Read the pickle of an archive that holds one value: its notes, or its tensor, are called `value`."""
    context = Context(len(request.pickle))
    content = _whole(request.pickle, context)
    return understand_value(content, context, _numbers(request.small, context, big_endian=request.big_endian))


def of_script(request: Request) -> Content:
    """Read the pickle of a TorchScript archive."""
    context = Context(len(request.pickle))
    return understand_script(_whole(request.pickle, context), context)


def of_distributed(request: Request) -> Distributed:
    """Read the metadata of torch.distributed.checkpoint."""
    context = Context(len(request.pickle))
    return understand_distributed(_whole(request.pickle, context), context)


def of_stream(request: Request) -> Content:
    """Read a pickle that is a file of its own."""
    context = Context(len(request.pickle))
    stream = read_stream(request.pickle, context)
    small = dict(request.small)
    place = stream.end
    for key, size in stream.members:
        n_bytes = size * int.from_bytes(request.pickle[place : place + 8], "little")
        if n_bytes <= MAX_SMALL:
            small[key] = request.pickle[place + 8 : place + 8 + n_bytes]
        place += 8 + n_bytes
    numbers = _numbers(small, context, big_endian=not stream.little_endian)
    return msgspec.structs.replace(
        understand(stream.content, context, numbers),
        members=stream.members,
        end=stream.end,
        little_endian=stream.little_endian,
    )


MAX_SMALL = 16
"""Bytes of a storage that is sent along with a pickle: one number of any type."""
READINGS: Mapping[str, Callable[[Request], msgspec.Struct]] = {
    "archive": of_archive,
    "stream": of_stream,
    "value": of_value,
    "script": of_script,
    "distributed": of_distributed,
}
"""What can be made of a pickle. What a reading gives must be flat and typed: the other side decodes it as such."""


def _numbers(small: Mapping[str, bytes], context: Context, *, big_endian: bool) -> Callable[[View], Note | None]:
    """Return what gives the number in a tensor of one element, where its bytes are at hand."""

    def number(view: View) -> Note | None:
        key = view.storage.key
        data = context.pieces[int(key[1:])] if key.startswith("#") and key[1:].isdigit() else small.get(key)
        if data is None or view.dtype not in FORMATS:
            return None
        return element(data[view.offset * SIZES[view.dtype] :], view.dtype, big_endian)

    return number


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    decoder, encoder = msgspec.msgpack.Decoder(Request), msgspec.msgpack.Encoder()
    while length := requests.read(LENGTH):
        message = requests.read(int.from_bytes(length, "little"))
        request = decoder.decode(message)
        del message
        _limit(request)
        try:
            answer = b"+" + encoder.encode(READINGS[request.reading](request))
        except BadPickle as refused:
            answer = b"-" + str(refused).encode(errors="backslashreplace")
        except (MemoryError, RecursionError):
            answer = b"-takes more memory to read than its size allows"
        answers.write(len(answer).to_bytes(LENGTH, "little"))
        answers.write(answer)
        answers.flush()


def _limit(request: Request) -> None:
    """Limit what this process may take for a request; on Windows nothing can."""
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    for kind, most in ((resource.RLIMIT_AS, request.memory), (resource.RLIMIT_CPU, used + 1 + request.seconds)):
        _soft, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def main() -> None:
    """Serve the process that started this one; an interrupt is meant for that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
