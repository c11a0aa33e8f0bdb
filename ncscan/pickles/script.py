"""Find the tensors of a TorchScript program in its pickle: attributes of modules that lie in one another.

In: the content of `data.pkl`. Out: `Content` with one state, named as the module's `state_dict()` names it.
"""

from ncscan.pickles.calls import MAX_TENSORS
from ncscan.pickles.content import MAX_MODULES, Content, PickledState
from ncscan.pickles.values import BadPickle, Context, NumpyArray, Record, View

OF_SCRIPT = "__torch__."
"""What the names of a program's classes begin with."""


def understand_script(content: object, context: Context) -> Content:
    """Return the tensors that are attributes of a program's modules.

    Raises: BadPickle when it is no module, or modules lie in one another without end.
    """
    if not isinstance(content, Record) or not content.name.startswith(OF_SCRIPT):
        raise BadPickle("holds a TorchScript program that is no module")
    tensors: dict[str, View | NumpyArray] = {}
    odd: list[str] = []
    visits = 0
    stack: list[tuple[tuple[str, ...], Record]] = [((), content)]
    while stack:
        path, record = stack.pop()
        attributes = [(name, value) for name, value in record.fields().items() if isinstance(name, str)]
        visits += 1 + len(attributes)
        if visits > MAX_TENSORS or len(path) > MAX_MODULES:
            raise BadPickle("holds modules that lie in one another without end")
        for name, value in attributes:
            if isinstance(value, View):
                tensors[".".join((*path, name))] = value
            elif isinstance(value, Record) and value.name.startswith("torch._utils._rebuild_"):
                odd.append(f"{name!a:.60} by {value.name!a:.60}")
        inner = [(n, v) for n, v in attributes if isinstance(v, Record) and v.name.startswith(OF_SCRIPT)]
        stack += [((*path, name), value) for name, value in reversed(inner)]
    inert = sorted(name for name in context.inert if not name.startswith((OF_SCRIPT, "torch.")))
    state = PickledState(((),), content.name.rpartition(".")[2], tensors, tuple(odd[:9]), ())
    return Content(content.name, (), (state,), {}, tuple(inert), tuple(context.pieces))
