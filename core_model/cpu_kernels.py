"""One token's pass through a LLaMA with packed weights, compiled for this processor by numba.

All layers and the head are one compiled function, so nothing of Python happens between products. Its threads share each
product: whoever is free takes the next few blocks of rows. The first thread also does the small work between, such as
norms; the others wait for it. A thread that the system does not run therefore delays nothing except the blocks that it
has taken.

Numbers are read as they are packed (`packed_weights`) and multiplied and added in float32, 32 rows at once.

The compiled code is kept on disk by numba, beside this file or in the user's cache folder. All of it is in one file,
because numba compiles a function again only if its own file has changed.

Shapes: d hidden size; h heads, k of them with keys of their own, of c channels; m width between the two products of an
MLP; l tokens before the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from mgem_agent.core_model.packed_weights import ROWS, UNIT_BYTES, UNIT_COLUMNS, Format

__all__ = ["Token", "attend", "compiled", "control_length", "emitted", "exp", "run_token"]

_LINE = 8
"""Numbers of 8 bytes in a cache line, so that threads that count different things do not share one."""

_TAKES_A_THREAD = 2
"""Times that a thread takes blocks of a product, if all are equally fast."""

_AHEAD = 8192
"""Bytes between what is computed and what is asked of the memory."""

_FLOAT, _BYTE, _INT, _HALF = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.HalfType()
_LANES = 16
_FLOATS, _BYTES, _INTS, _HALVES = (ir.VectorType(kind, _LANES) for kind in (_FLOAT, _BYTE, _INT, _HALF))
_SHORTS = ir.VectorType(ir.IntType(16), _LANES)
_VECTORS = ROWS // _LANES

_GRID, _BYTES_KIND, _HALF_KIND, _BRAIN_KIND, _ = (
    int(kind) for kind in Format
)  # numba knows numbers, but no such classes
_GRID_UNIT, _BYTES_UNIT, _HALF_UNIT, _BRAIN_UNIT, _FLOAT_UNIT = (UNIT_BYTES[kind] for kind in Format)

_INTO_ATTENTION, _ATTENTION, _AFTER_ATTENTION, _INTO_MLP, _OUT_OF_MLP = range(5)
_PARTS = 5
"""Phases of a layer."""

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},  # sums in another order; infinities and NaN keep their meaning
}


def compiled(function: Callable[..., Any]) -> Any:
    """Let numba compile a function at its first call, and keep the code on disk if a folder can be written to."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither this folder nor the user's cache folder can be written to
        return njit(**_OPTIONS)(function)


def emitted(function: Callable[..., Any]) -> Any:
    """Let a function write LLVM's instructions for its calls; callers leave out its first argument."""
    return intrinsic(function)


class _Emitter:
    """Writes LLVM's instructions for the sums of a block.

    Args:
        builder: Where to write.
    """

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        self._fma = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v16f32")
        self.zero = ir.Constant(_FLOATS, [0.0] * _LANES)

    def load(self, kind: Any, address: Any, offset: int = 0, align: int = 2) -> Any:
        place = self.builder.add(address, ir.Constant(address.type, offset))
        return self.builder.load(self.builder.inttoptr(place, kind.as_pointer()), align=align)

    def _prefetch(self, address: Any, num_bytes: int) -> None:
        """Ask the memory for what is read some units later."""
        pointer = _BYTE.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        prefetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        for line in range(0, num_bytes, 64):
            place = self.builder.add(address, ir.Constant(address.type, _AHEAD + line))
            for_reading, keep, is_data = (ir.Constant(_INT, number) for number in (0, 3, 1))
            self.builder.call(prefetch, [self.builder.inttoptr(place, pointer), for_reading, keep, is_data])

    def everywhere(self, number: Any) -> Any:
        """Return a vector of one number."""
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * _LANES))

    def fma(self, one: Any, other: Any, added: Any) -> Any:
        return self.builder.call(self._fma, [one, other, added])

    def column(self, kind: Format, address: Any, place: int) -> list[Any]:
        """Return a column of a block as two vectors."""
        builder = self.builder
        if kind is Format.GRID:
            both = self.load(_BYTES, address, place * _LANES, 1)
            low = builder.and_(both, ir.Constant(_BYTES, [15] * _LANES))
            high = builder.lshr(both, ir.Constant(_BYTES, [4] * _LANES))
            return [builder.uitofp(builder.zext(part, _INTS), _FLOATS) for part in (low, high)]
        starts = [place * ROWS + vector * _LANES for vector in range(_VECTORS)]
        if kind is Format.BYTES:
            parts = [self.load(_BYTES, address, start, 1) for start in starts]
            return [builder.sitofp(builder.sext(part, _INTS), _FLOATS) for part in parts]
        if kind is Format.HALF:
            return [builder.fpext(self.load(_HALVES, address, 2 * start), _FLOATS) for start in starts]
        if kind is Format.BRAIN:  # the upper half of a float32 number
            parts = [builder.zext(self.load(_SHORTS, address, 2 * start), _INTS) for start in starts]
            return [builder.bitcast(builder.shl(part, ir.Constant(_INTS, [16] * _LANES)), _FLOATS) for part in parts]
        return [self.load(_FLOATS, address, 4 * start, 4) for start in starts]

    def scales(self, address: Any, offset: int) -> list[Any]:
        """Return steps or lowest values of the rows of a block."""
        places = [offset + 2 * _LANES * vector for vector in range(_VECTORS)]
        return [self.builder.fpext(self.load(_HALVES, address, place), _FLOATS) for place in places]

    def unit(self, kind: Format, packed: Any, given: Any, sums: Any, totals: list[Any]) -> list[Any]:
        """Return totals plus the products of a unit of columns with the numbers given."""
        width = UNIT_COLUMNS[kind]
        self._prefetch(packed, UNIT_BYTES[kind])
        is_scaled = kind in (Format.GRID, Format.BYTES)
        found = [self.zero] * _VECTORS if is_scaled else totals
        for place in range(width):
            number = self.everywhere(self.load(_FLOAT, given, 4 * place, 4))
            column = self.column(kind, packed, place)
            found = [self.fma(part, number, total) for part, total in zip(column, found, strict=True)]
        if not is_scaled:
            return found
        codes = width * (_LANES if kind is Format.GRID else ROWS)
        steps = self.scales(packed, codes)
        totals = [self.fma(part, step, total) for part, step, total in zip(found, steps, totals, strict=True)]
        if kind is Format.GRID:
            total_given = self.everywhere(self.load(_FLOAT, sums, 0, 4))
            lowest = self.scales(packed, codes + 2 * ROWS)
            totals = [self.fma(low, total_given, total) for low, total in zip(lowest, totals, strict=True)]
        return totals


def _block_sums(kind: Format) -> Any:
    """Return a function that adds a block's product to 32 sums, by the addresses of all."""

    @emitted
    def block_sums(typing: Any, packed: Any, units: Any, given: Any, sums: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            packed, units, given, sums, out = arguments
            emitter = _Emitter(builder)
            first = [emitter.load(_FLOATS, out, 4 * _LANES * vector, 4) for vector in range(_VECTORS)]
            totals = [cgutils.alloca_once_value(builder, value) for value in first]
            for place, value in zip(totals, first, strict=True):
                builder.store(value, place)
            with cgutils.for_range(builder, units) as loop:

                def moved(address: Any, bytes_each: int) -> Any:
                    return builder.add(address, builder.mul(loop.index, ir.Constant(address.type, bytes_each)))

                found = emitter.unit(
                    kind,
                    moved(packed, UNIT_BYTES[kind]),
                    moved(given, 4 * UNIT_COLUMNS[kind]),
                    moved(sums, 4),
                    [builder.load(place) for place in totals],
                )
                for place, value in zip(totals, found, strict=True):
                    builder.store(value, place)
            for vector, place in enumerate(totals):
                target = builder.add(out, ir.Constant(out.type, 4 * _LANES * vector))
                builder.store(builder.load(place), builder.inttoptr(target, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), generate

    return block_sums


_grid_sums, _byte_sums, _half_sums, _brain_sums, _float_sums = (_block_sums(kind) for kind in Format)


@emitted
def _count_up(typing: Any, address: Any) -> Any:
    """Add one to the number at an address, and return what it was; other threads see it at once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(types.intp), generate


@emitted
def _read(typing: Any, address: Any) -> Any:
    """Return the number at an address, and see all that was written before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.intp), generate


@emitted
def _from_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 number with the bits of an integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), generate


@compiled
def exp(power: Any) -> Any:
    """Return e to a power, to 2e-7 of itself. Unlike the library's, LLVM computes it for many numbers at once."""
    power = min(max(power, np.float32(-87)), np.float32(88))
    doublings = np.floor(power * np.float32(1.4426950408889634) + np.float32(0.5))
    rest = power - doublings * np.float32(0.693145751953125) - doublings * np.float32(1.428606765330187e-06)
    found = np.float32(1 / 720)
    for factor in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        found = found * rest + np.float32(factor)
    return found * _from_bits((np.int32(doublings) + np.int32(127)) << np.int32(23))


@emitted
def _floats_at(typing: Any, address: Any) -> Any:
    """Return a pointer to float32 numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], _FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.intp), generate


class Token(NamedTuple):
    """A token, the weights and the working memory. Numbers are float32 if not said otherwise.

    Attributes:
        control: Counters, `control_length` zeros (int64).
        weights: Address of the packed matrices.
        table: Their table, (4 · layers + 1, 3, 4) (int64).
        norms: Weights of the norms, (2 · layers + 1, d).
        rooms: For each layer, the addresses of its keys and values (k, capacity, c), and their capacity (int64).
        sizes: h, k, c, l, and the number of threads (int64).
        eps: Added to the mean square in norms.
        cosines: Of the token's position, (c,).
        sines: Likewise.
        hidden: The token's embedding (d,); in the end, the output after the last norm.
        given: What a product gets.
        sums: Sums of each 32 numbers that a product gets.
        seen: What the first and the third product of a layer give.
        attended: What the attention gives, (h · c,).
        delta: What the second and the fourth product give.
        gated: What the fourth product gets, (m,).
        nothing: No numbers.
        narrow: What the adapters' first products give.
        scores: Of the attention, (h, capacity).
        logits: Gets the scores of the next token, (vocabulary,) and padding.
    """

    control: Any
    weights: int
    table: Any
    norms: Any
    rooms: Any
    sizes: Any
    eps: float
    cosines: Any
    sines: Any
    hidden: Any
    given: Any
    sums: Any
    seen: Any
    attended: Any
    delta: Any
    gated: Any
    nothing: Any
    narrow: Any
    scores: Any
    logits: Any


def control_length(num_layers: int) -> int:
    """Return how many numbers the threads of a token need to share its work."""
    return _LINE * (2 * (_PARTS * num_layers + 1) + 2)


@compiled
def _opened(token: Any) -> int:
    """Return the address of the count of phases whose work may begin."""
    return token.control.ctypes.data


@compiled
def _taken(token: Any, phase: int) -> int:
    """Return the address of the count of pieces of work that threads took."""
    return token.control.ctypes.data + 8 * _LINE * (2 * phase + 2)


@compiled
def _finished(token: Any, phase: int) -> int:
    """Return the address of the count of pieces of work that threads finished."""
    return _taken(token, phase) + 8 * _LINE


@compiled
def _add_block(weights: int, matrix: Any, block: int, given: Any, sums: Any, out: Any) -> None:
    """Add the product of a block to its 32 sums in `out`."""
    kind, units = matrix[0], matrix[2]
    first, numbers, totals = weights + matrix[3], given.ctypes.data, sums.ctypes.data
    target = out.ctypes.data + 4 * ROWS * block
    if kind == _GRID:
        _grid_sums(first + block * units * _GRID_UNIT, units, numbers, totals, target)
    elif kind == _BYTES_KIND:
        _byte_sums(first + block * units * _BYTES_UNIT, units, numbers, totals, target)
    elif kind == _HALF_KIND:
        _half_sums(first + block * units * _HALF_UNIT, units, numbers, totals, target)
    elif kind == _BRAIN_KIND:
        _brain_sums(first + block * units * _BRAIN_UNIT, units, numbers, totals, target)
    else:
        _float_sums(first + block * units * _FLOAT_UNIT, units, numbers, totals, target)


@compiled
def _per_take(token: Any, blocks: int) -> int:
    return max(1, blocks // (_TAKES_A_THREAD * token.sizes[4]))


@compiled
def _share_product(token: Any, phase: int, place: int, given: Any, out: Any, gated: Any) -> int:
    """Compute blocks of a product until none is left; return how many pieces it has.

    `gated` gets SiLU(gate) times the other half, if it has room.
    """
    product, taken = token.table[place], _taken(token, phase)
    blocks, half = product[0, 1], ROWS // 2
    per_take = _per_take(token, blocks)
    while True:
        start = _count_up(taken) * per_take
        if start >= blocks:
            return -(-blocks // per_take)
        for block in range(start, min(blocks, start + per_take)):
            first = block * ROWS
            for row in range(first, first + ROWS):
                out[row] = np.float32(0)
            _add_block(token.weights, product[0], block, given, token.sums, out)
            if product[2, 1] > 0:
                _add_block(token.weights, product[2], block, token.narrow, token.sums, out)
            if len(gated) > 0:
                for row in range(half):
                    gate = out[first + row]
                    gated[block * half + row] = gate / (np.float32(1) + exp(-gate)) * out[first + half + row]
        _count_up(_finished(token, phase))


@compiled
def _share_heads(token: Any, phase: int, layer: int) -> int:
    """Compute heads of the attention until none is left; return how many there are."""
    heads, key_heads, channels, length = token.sizes[0], token.sizes[1], token.sizes[2], token.sizes[3] + 1
    taken, room = _taken(token, phase), token.rooms[layer]
    while True:
        head = _count_up(taken)
        if head >= heads:
            return heads
        offset = 4 * (head // (heads // key_heads)) * room[2] * channels
        keys = numba.carray(_floats_at(room[0] + offset), (length, channels))
        values = numba.carray(_floats_at(room[1] + offset), (length, channels))
        place = slice(head * channels, (head + 1) * channels)
        attend(token.seen[place], keys, values, token.scores[head], token.attended[place])
        _count_up(_finished(token, phase))


@compiled
def attend(query: Any, keys: Any, values: Any, scores: Any, out: Any) -> None:
    """Write softmax(q·K / √c)·V of one head."""
    length, channels = keys.shape
    scale = np.float32(1) / np.sqrt(np.float32(channels))
    highest = np.float32(-np.inf)
    for token in range(length):
        total = np.float32(0)
        for place in range(channels):
            total += query[place] * keys[token, place]
        scores[token] = total * scale
        highest = max(highest, scores[token])
    total = np.float32(0)
    for token in range(length):
        scores[token] = exp(scores[token] - highest)
        total += scores[token]
    for place in range(channels):
        out[place] = np.float32(0)
    whole = length - length % 4
    for token in range(0, whole, 4):  # four at once, because the sums are read and written each time
        one, two, three, four = scores[token], scores[token + 1], scores[token + 2], scores[token + 3]
        for place in range(channels):
            out[place] += (
                one * values[token, place]
                + two * values[token + 1, place]
                + three * values[token + 2, place]
                + four * values[token + 3, place]
            )
    for token in range(whole, length):
        for place in range(channels):
            out[place] += scores[token] * values[token, place]
    for place in range(channels):
        out[place] /= total


@compiled
def _prepare(token: Any, place: int, given: Any) -> None:
    """Compute what all blocks of a product need: sums of 32 numbers given, and the adapter's first product."""
    product, sums, narrow = token.table[place], token.sums, token.narrow
    if product[0, 0] == _GRID:
        for unit in range(product[0, 2]):
            total = np.float32(0)
            for number in range(32 * unit, 32 * unit + 32):
                total += given[number]
            sums[unit] = total
    if product[1, 1] > 0:
        narrow[:] = np.float32(0)
        for block in range(product[1, 1]):
            _add_block(token.weights, product[1], block, given, sums, narrow)


@compiled
def _normalize(hidden: Any, weight: Any, eps: float, out: Any) -> None:
    total = np.float32(0)
    for place in range(len(hidden)):
        total += hidden[place] * hidden[place]
    scale = np.float32(1) / np.sqrt(total / np.float32(len(hidden)) + np.float32(eps))
    for place in range(len(hidden)):
        out[place] = hidden[place] * scale * weight[place]


@compiled
def _rotate(vector: Any, cosines: Any, sines: Any) -> None:
    half = len(vector) // 2
    for place in range(half):
        one, other = vector[place], vector[place + half]
        vector[place] = one * cosines[place] - other * sines[place]
        vector[place + half] = other * cosines[place + half] + one * sines[place + half]


@compiled
def _keep(token: Any, layer: int) -> None:
    """Rotate queries and keys, and write keys and values behind those of the tokens before."""
    heads, key_heads, channels, past = token.sizes[0], token.sizes[1], token.sizes[2], token.sizes[3]
    room, seen = token.rooms[layer], token.seen
    for head in range(heads + key_heads):
        _rotate(seen[head * channels : (head + 1) * channels], token.cosines, token.sines)
    for head in range(key_heads):
        offset = 4 * (head * room[2] + past) * channels
        keys = numba.carray(_floats_at(room[0] + offset), (channels,))
        values = numba.carray(_floats_at(room[1] + offset), (channels,))
        for place in range(channels):
            keys[place] = seen[(heads + head) * channels + place]
            values[place] = seen[(heads + key_heads + head) * channels + place]


@compiled
def _add_delta(token: Any) -> None:
    for place in range(len(token.hidden)):
        token.hidden[place] += token.delta[place]


@compiled
def _begin(token: Any, layer: int, part: int) -> None:
    """Do the work before a phase of a layer, on one thread."""
    if part == _ATTENTION:
        _keep(token, layer)
    elif part == _AFTER_ATTENTION:
        _prepare(token, 4 * layer + 1, token.attended)
    elif part == _OUT_OF_MLP:
        _prepare(token, 4 * layer + 3, token.gated)
    else:
        if layer + part > 0:
            _add_delta(token)
        _normalize(token.hidden, token.norms[2 * layer + part // 2], token.eps, token.given)
        _prepare(token, 4 * layer + (part + 1) // 2, token.given)


@compiled
def _share(token: Any, phase: int, layer: int, part: int) -> int:
    """Do pieces of a phase of a layer until none is left; return how many pieces it has."""
    if part == _ATTENTION:
        return _share_heads(token, phase, layer)
    if part == _AFTER_ATTENTION:
        place, given, out, gated = 4 * layer + 1, token.attended, token.delta, token.nothing
    elif part == _OUT_OF_MLP:
        place, given, out, gated = 4 * layer + 3, token.gated, token.delta, token.nothing
    elif part == _INTO_ATTENTION:
        place, given, out, gated = 4 * layer, token.given, token.seen, token.nothing
    else:
        place, given, out, gated = 4 * layer + 2, token.given, token.seen, token.gated
    return _share_product(token, phase, place, given, out, gated)


@compiled
def _await(address: int, count: int) -> None:
    while _read(address) < count:
        pass


@compiled
def run_token(is_first: bool, token: Any) -> None:
    """Compute a token's output and the scores of the next, together with other threads that call this.

    Args:
        is_first: Whether this thread does the work between the phases; exactly one does.
        token: A :class:`Token`.
    """
    num_layers = len(token.rooms)
    phase = 0
    for layer in range(num_layers):
        for part in range(_PARTS):
            if is_first:
                _begin(token, layer, part)
                _count_up(_opened(token))
            else:
                _await(_opened(token), phase + 1)
            pieces = _share(token, phase, layer, part)
            if is_first:
                _await(_finished(token, phase), pieces)
            phase += 1
    if is_first:
        _add_delta(token)
        _normalize(token.hidden, token.norms[2 * num_layers], token.eps, token.given)
        token.hidden[:] = token.given[: len(token.hidden)]
        _prepare(token, 4 * num_layers, token.given)
        _count_up(_opened(token))
    else:
        _await(_opened(token), phase + 1)
    pieces = _share_product(token, phase, 4 * num_layers, token.given, token.logits, token.nothing)
    if is_first:
        _await(_finished(token, phase), pieces)
