"""Pickles of PyTorch, read by a machine that can make plain data and nothing else.

Python's unpickler imports and calls what a file names, sets attributes of what it made, and
allocates what a file asks for. Guarding each of its instructions is harder to get right than
having few of them. This one knows those that `torch.save` writes in the protocols 2 to 4: they
make numbers, texts, lists, tuples, dictionaries and the records of `torch_names`, and whatever
else is met ends the reading. It does not recurse, so nesting is no danger; it copies no list
that a file mentions more than once, and takes a bounded number of steps.
"""

import pickle  # Nothing but the names of its instructions.
import struct
from mmap import mmap

from ar_net_jax.errors import UserError
from ar_net_jax.weights.torch_names import (
    Inert,
    Maker,
    Storage,
    damaged,
    find,
    make_storage,
    to_key,
)

MAX_STEPS = 2_000_000
"""Instructions and copied items of one pickle; a tensor takes about 25."""

_MAX_NAME = 200
_CONSTANTS = {
    pickle.NONE[0]: None,
    pickle.NEWTRUE[0]: True,
    pickle.NEWFALSE[0]: False,
    pickle.EMPTY_TUPLE[0]: (),
}
_NUMBERS = {
    pickle.BININT[0]: "<i",
    pickle.BININT1[0]: "<B",
    pickle.BININT2[0]: "<H",
    pickle.BINFLOAT[0]: ">d",
}
# Bytes, which Python 2 had for text, are read as Latin-1: as the same text, and without loss.
_TEXTS = {
    pickle.SHORT_BINUNICODE[0]: ("<B", "utf-8"),
    pickle.BINUNICODE[0]: ("<I", "utf-8"),
    pickle.BINUNICODE8[0]: ("<Q", "utf-8"),
    pickle.SHORT_BINSTRING[0]: ("<B", "latin-1"),
    pickle.BINSTRING[0]: ("<I", "latin-1"),
    pickle.SHORT_BINBYTES[0]: ("<B", "latin-1"),
    pickle.BINBYTES[0]: ("<I", "latin-1"),
}
_PUTS = {pickle.BINPUT[0]: "<B", pickle.LONG_BINPUT[0]: "<I"}
_GETS = {pickle.BINGET[0]: "<B", pickle.LONG_BINGET[0]: "<I"}
_TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}
_IGNORED = {pickle.PROTO[0]: "<B", pickle.FRAME[0]: "<Q"}


class Unpickler:
    """Reads one pickle after the other.

    Attributes:
        position: of the byte after what was read so far.
        storages: key -> the storage that pickles mentioned under it.
    """

    def __init__(self, data: bytes | mmap, start: int, stop: int) -> None:
        """Reads from part of a file.

        Args:
            data: the file.
            start: where the first pickle begins.
            stop: where there is nothing more to read.
        """
        self.position = start
        self.storages: dict[str, Storage] = {}
        self._data = data
        self._stop = stop

    def load(self) -> object:
        """The value of the next pickle.

        Returns:
            None, a number, text, a tuple or list of values, a dictionary with text as its keys,
            or a record of `torch_names`.

        Raises:
            UserError: the pickle is damaged, is too long, or holds anything else; the message is
                to be preceded by the file's path.
        """
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._steps = 0
        try:
            while (code := self._take(1)[0]) != pickle.STOP[0]:
                self._spend(1)
                self._step(code)
            return self._stack.pop()
        except UserError:
            raise
        except (IndexError, KeyError, ValueError):
            # An empty stack, an unknown memory, text in no encoding: instructions out of place.
            raise damaged(f"no pickle before byte {self.position}") from None

    def _step(self, code: int) -> None:
        if code in _CONSTANTS:
            self._stack.append(_CONSTANTS[code])
        elif code in _NUMBERS:
            self._stack.append(self._number(_NUMBERS[code]))
        elif code in _TEXTS:
            form, encoding = _TEXTS[code]
            self._stack.append(self._take(int(self._number(form))).decode(encoding))
        elif code in _PUTS:
            self._memo[int(self._number(_PUTS[code]))] = self._stack[-1]
        elif code in _GETS:
            self._stack.append(self._memo[int(self._number(_GETS[code]))])
        elif code in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[code])))
        elif code in _IGNORED:
            self._number(_IGNORED[code])
        elif code in _ACTIONS:
            _ACTIONS[code](self)
        else:
            raise damaged(f"instruction {code:#04x} at byte {self.position - 1}")

    def _take(self, count: int) -> bytes:
        # Compared before anything is read: a length is four or eight bytes that may say anything.
        if count > self._stop - self.position:
            raise damaged(f"it ends within the {count} bytes from byte {self.position}")
        self.position += count
        return self._data[self.position - count : self.position]

    def _number(self, form: str) -> int | float:
        value: int | float = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _line(self) -> str:
        stop = min(self._stop, self.position + _MAX_NAME)
        end = self._data.find(b"\n", self.position, stop)
        if end < 0:
            raise damaged(f"a name without end at byte {self.position}")
        line = self._take(end - self.position).decode("utf-8")
        self.position += 1
        return line

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise UserError(
                f"holds more than {MAX_STEPS} values; save the state dictionary alone: "
                "torch.save(model.state_dict(), FILE)"
            )

    def _pop(self, count: int) -> list[object]:
        if count > len(self._stack):
            raise IndexError
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _pop_marked(self) -> list[object]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _long(self) -> None:
        self._stack.append(int.from_bytes(self._take(self._take(1)[0]), "little", signed=True))

    def _decimal(self) -> None:
        # Python 2 wrote so what takes more than 32 bits.
        self._stack.append(int(self._line()))

    def _tuple(self) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def _empty_list(self) -> None:
        self._stack.append([])

    def _empty_dictionary(self) -> None:
        self._stack.append({})

    def _append(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise damaged(f"items of no list before byte {self.position}")
        target.extend(items)

    def _set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise damaged(f"items of no dictionary before byte {self.position}")
        for name, value in zip(items[::2], items[1::2]):
            key = to_key(name)
            if key is not None:
                target[key] = value

    def _global(self) -> None:
        module = self._line()
        self._stack.append(find(module, self._line()))

    def _stack_global(self) -> None:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise damaged(f"a name that is no text before byte {self.position}")
        self._stack.append(find(module, name))

    def _call(self) -> None:
        maker, arguments = self._pop(2)
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise damaged(f"a call of no function before byte {self.position}")
        # A maker may copy its arguments, and a file may mention the same ones again and again.
        self._spend(len(arguments))
        self._spend(sum(len(part) for part in arguments if isinstance(part, (tuple, list, dict))))
        self._stack.append(maker.make(arguments))

    def _set_state(self) -> None:
        # Attributes: those of an ordered dictionary are versions of modules. No state needs any.
        target, state = self._pop(2)
        if target is not Inert.VALUE and not (isinstance(target, dict) and isinstance(state, dict)):
            raise damaged(f"attributes of no object before byte {self.position}")
        self._stack.append(target)

    def _storage(self) -> None:
        storage = make_storage(self._stack.pop())
        known = self.storages.setdefault(storage.key, storage)
        if (known.numbers, known.length) != (storage.numbers, storage.length):
            raise damaged(f"storage {storage.key[:40]!r} is said to be of two kinds or lengths")
        self._stack.append(storage)


_ACTIONS = {
    pickle.MARK[0]: Unpickler._mark,
    pickle.MEMOIZE[0]: Unpickler._memoize,
    pickle.LONG1[0]: Unpickler._long,
    pickle.INT[0]: Unpickler._decimal,
    pickle.TUPLE[0]: Unpickler._tuple,
    pickle.EMPTY_LIST[0]: Unpickler._empty_list,
    pickle.EMPTY_DICT[0]: Unpickler._empty_dictionary,
    pickle.APPEND[0]: lambda self: self._append(self._pop(1)),
    pickle.APPENDS[0]: lambda self: self._append(self._pop_marked()),
    pickle.SETITEM[0]: lambda self: self._set_items(self._pop(2)),
    pickle.SETITEMS[0]: lambda self: self._set_items(self._pop_marked()),
    pickle.GLOBAL[0]: Unpickler._global,
    pickle.STACK_GLOBAL[0]: Unpickler._stack_global,
    pickle.REDUCE[0]: Unpickler._call,
    pickle.NEWOBJ[0]: Unpickler._call,
    pickle.BUILD[0]: Unpickler._set_state,
    pickle.BINPERSID[0]: Unpickler._storage,
}
