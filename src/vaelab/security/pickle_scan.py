"""Scan the pickle of a checkpoint without reading it: what it would call, and how much work reading it would take.

A short pickle can ask for any amount of work. It can copy one list a million times, and it can nest tuples so that the
hash of a key takes years. So the scan follows the pickle's stack, and adds up what is copied and hashed.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import torch

from vaelab.security.untrusted import shown

LARGEST_PICKLE = 2**22  # bytes, without tensors; ours take thousands. Reading may need a hundred times as much memory
UNUSUAL = 1000  # the work of hashing a key that is no string or small number, because many of them can share a hash

# PyTorch allows more with `weights_only=True`; others, such as bytearray, can take any amount of memory
CALLABLE = {
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter"),
    *("collections OrderedDict", "collections Counter", "__builtin__ set", "__builtin__ complex"),
    *("__builtin__ bytes", "_codecs encode", "torch Size", "torch device"),
}
STORAGES = "torch.storage UntypedStorage"
ATOMS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT"}
STRINGS = {"BINUNICODE", "SHORT_BINSTRING"}
EMPTY = {"EMPTY_DICT", "EMPTY_LIST"}
PUTS, GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(slots=True)
class _Value:
    """What the scan knows of a value on the stack."""

    size: int = 0  # the work of copying it into a set, a dict or bytes
    key: int = UNUSUAL  # the work of hashing it
    items: tuple["_Value", ...] | None = None  # the items of a tuple
    name: str = ""  # what a global names; the text of a short string


def check_pickle(content: bytes) -> None:
    """Refuse a pickle that asks for more than tensors and plain data, or for more work than a plain one of its size.

    Raises:
        ValueError: says what it asks for.
        Exception: it is not a pickle, in the words of `pickletools`.
    """
    scan = _Scan()
    for opcode, argument, _ in pickletools.genops(content):
        scan.follow(opcode.name, argument)
        if scan.work > LARGEST_PICKLE:
            raise ValueError(f"reading its pickle takes more than {LARGEST_PICKLE:,} operations")


class _Scan:
    """The stack of a pickle, and the work of reading it so far."""

    def __init__(self) -> None:
        self.stack: list[_Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, _Value] = {}
        self.work = 0

    def follow(self, opcode: str, argument: Any) -> None:
        """Do to the stack what the opcode does. An opcode that PyTorch does not read is refused."""
        if opcode in GETS:
            self.stack.append(self.memo[argument])
        elif opcode in PUTS:
            self.memo[argument] = self.stack[-1]
        elif opcode in ATOMS:
            self.stack.append(_Value(key=1))
        elif opcode in STRINGS:
            self.stack.append(_Value(len(argument), 1, name=argument if len(argument) < 10 else ""))
        elif opcode == "LONG1":
            self.stack.append(_Value(key=1 if -(2**63) <= argument < 2**63 else UNUSUAL))
        elif opcode == "MARK":
            self.marks.append(len(self.stack))
        elif opcode in EMPTY:
            self.stack.append(_Value())
        elif opcode == "TUPLE" or opcode in TUPLES:
            self.make_tuple(self.popped(TUPLES.get(opcode)))
        elif opcode in ("APPEND", "APPENDS"):
            self.put_in(self.popped(1 if opcode == "APPEND" else None))
        elif opcode in ("SETITEM", "SETITEMS"):
            keys = self.popped(2 if opcode == "SETITEM" else None)[::2]
            self.put_in(keys)
            self.work += sum(key.key for key in keys)
        elif opcode == "GLOBAL":
            self.stack.append(_Value(name=_allowed(argument)))
        elif opcode == "BINPERSID":
            self.stack[-1] = _Value()
        elif opcode == "REDUCE":
            self.call(*self.popped(2))
        elif opcode not in ("PROTO", "STOP"):
            raise _refused(argument or opcode)

    def popped(self, count: int | None) -> list[_Value]:
        """Remove and return the last `count` values, or those since the last mark."""
        begin = self.marks.pop() if count is None else len(self.stack) - count
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    def make_tuple(self, items: list[_Value]) -> None:
        size = min(sum(item.key for item in items), 2 * LARGEST_PICKLE)  # not more, because tuples may nest deeply
        self.stack.append(_Value(size, UNUSUAL + size, tuple(items)))

    def put_in(self, items: list[_Value]) -> None:
        self.stack[-1].size += sum(item.key for item in items)

    def call(self, function: _Value, arguments: _Value) -> None:
        """Count the work of a call, and put its result on the stack."""
        if function.name not in CALLABLE or arguments.items is None:
            raise _refused(function.name or "a call")
        if function.name == "__builtin__ bytes" and arguments.items:
            raise _refused("bytes of any length")  # the only call that Python writes has no argument, and makes b""
        if function.name == "_codecs encode" and [item.name for item in arguments.items[1:]] != ["latin1"]:
            raise _refused("another encoding than latin1")  # some take much longer than the text
        size = sum(argument.size for argument in arguments.items)
        self.work += size
        self.stack.append(_Value(size))


def _allowed(name: str) -> str:
    module, _, attribute = name.partition(" ")
    storage = (module == "torch" and attribute.isalnum() and attribute.endswith("Storage")) or name == STORAGES
    dtype = module == "torch" and isinstance(vars(torch).get(attribute), torch.dtype)
    if not (name in CALLABLE or storage or dtype):
        raise _refused(name)
    return name


def _refused(what: str) -> ValueError:
    return ValueError(f"it asks for {shown(what)}, expected tensors and plain data")
