"""A Gaussian's rows of a tile in vector registers.

The compiler makes vector code of such loops only in part: conditions and the many arrays stand in its way. So the rows
of one Gaussian are written as vector code for LLVM, with sums over them in registers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ntalker_ns.kernels.numba.common import FASTMATH, repeated
from ntalker_ns.kernels.numba.products import VECTOR_BYTES
from ntalker_ns.kernels.numba.splats_projection import LEAST_LOG2, PACKED, SUMS, TILE
from ntalker_ns.kernels.types import MIN_TRANSMITTANCE, MOST_ALPHA

CHANNELS = 5
"""Of a tile: transmittance, red, green, blue, depth."""
BACKWARD_CHANNELS = 7
"""Transmittance, gradients of the other four and of opacity, and how the loss changes with all that is behind."""

LANES = VECTOR_BYTES // 4
"""Pixels of a vector: a row of a tile, half of it or a quarter."""

_SERIES = (0.999999261, 0.693121815, 0.240247448, 0.0559178603, 0.00957010173)
"""Of 2^x for x from -0.5 to 0.5, to 2.6e-6 of it."""
_LIFT = 32
"""Makes exponents positive, so that cutting off the fraction rounds down."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)


class _Number:
    """A float32, or `LANES` of them, that is computed."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: "_Number | float") -> "_Number":
        return self._combined("fadd", other)

    def __sub__(self, other: "_Number | float") -> "_Number":
        return self._combined("fsub", other)

    def __mul__(self, other: "_Number | float") -> "_Number":
        return self._combined("fmul", other)

    def __truediv__(self, other: "_Number | float") -> "_Number":
        return self._combined("fdiv", other)

    def __ge__(self, other: "_Number | float") -> Any:
        one, two = self._alike(other)
        return self.builder.fcmp_ordered(">=", one, two)

    def least(self, other: "_Number | float") -> "_Number":
        """The smaller one; the other one, where this is no number."""
        one, two = self._alike(other)
        return _Number(self.builder, self.builder.select(self.builder.fcmp_ordered("<", one, two), one, two))

    def most(self, other: "_Number | float") -> "_Number":
        """The larger one."""
        one, two = self._alike(other)
        return _Number(self.builder, self.builder.select(self.builder.fcmp_ordered(">", one, two), one, two))

    def where(self, condition: Any) -> "_Number":
        """0 where the condition does not hold."""
        nothing = ir.Constant(self.value.type, None)
        return _Number(self.builder, self.builder.select(condition, self.value, nothing))

    def power_of_two(self) -> "_Number":
        """2 to this, which is between -30 and 90; anything elsewhere."""
        builder = self.builder
        integers = ir.VectorType(_INT, LANES)
        lifted = builder.fptosi((self + (_LIFT + 0.5)).value, integers)
        whole = builder.sub(lifted, ir.Constant(integers, [_LIFT] * LANES))
        rest = self - _Number(builder, builder.sitofp(whole, self.value.type))
        series = rest * _SERIES[-1] + _SERIES[-2]
        for factor in reversed(_SERIES[:-2]):
            series = series * rest + factor
        exponent = builder.shl(
            builder.add(whole, ir.Constant(integers, [127] * LANES)), ir.Constant(integers, [23] * LANES)
        )
        return series * _Number(builder, builder.bitcast(exponent, self.value.type))

    def _combined(self, operation: str, other: "_Number | float") -> "_Number":
        return _Number(self.builder, getattr(self.builder, operation)(*self._alike(other), flags=tuple(FASTMATH)))

    def _alike(self, other: "_Number | float") -> tuple[Any, Any]:
        """Both values, the shorter one repeated."""
        two = other.value if isinstance(other, _Number) else ir.Constant(_FLOAT, float(other))
        return self._repeated(self.value, two), self._repeated(two, self.value)

    def _repeated(self, value: Any, like: Any) -> Any:
        if value.type == like.type or isinstance(value.type, ir.VectorType):
            return value
        return repeated(self.builder, value, like.type)


class _Gaussian(NamedTuple):
    """A projected Gaussian in the coordinates of a tile's pixel centres."""

    x: _Number
    y: _Number
    precision: _Number
    slant: _Number
    narrow: _Number
    peak: _Number
    values: tuple[_Number, ...]
    """Red, green, blue and depth."""


class _Place(NamedTuple):
    """Pixels of a row that are computed at once, and the Gaussian there."""

    channels: Callable[[int], Any]
    """Where the pixels' values of a channel are."""
    light: _Number
    """Their transmittance."""
    there: Any
    """Where the Gaussian is drawn."""
    off: _Number
    """The pixels' distances along x from the row's centre."""
    down: _Number
    """The row's distance along y from the Gaussian's."""
    exponent: _Number
    """Of 2: log2 of alpha."""


def _vector(builder: Any, values: list[float]) -> _Number:
    return _Number(builder, ir.Constant(ir.VectorType(_FLOAT, LANES), values))


def _load(builder: Any, place: Any) -> _Number:
    return _Number(builder, builder.load(place, align=4))


def _any(builder: Any, conditions: Any) -> Any:
    """Whether one of `LANES` conditions holds."""
    bits = ir.IntType(LANES)
    return builder.icmp_unsigned("!=", builder.bitcast(conditions, bits), ir.Constant(bits, 0))


def _store(builder: Any, value: _Number, place: Any) -> None:
    builder.store(value.value, place, align=4)


def _read_gaussian(builder: Any, numbers: Any, x: Any, y: Any) -> _Gaussian:
    def number(place: int) -> _Number:
        return _Number(builder, builder.load(builder.gep(numbers, [ir.Constant(ir.IntType(64), place)]), align=4))

    def shifted(place: int, corner: Any) -> _Number:
        return number(place) - _Number(builder, builder.sitofp(corner, _FLOAT)) - 0.5

    values = (number(6), number(7), number(8), number(9))
    return _Gaussian(shifted(0, x), shifted(1, y), number(2), number(3), number(4), number(5), values)


def _over_rows(
    builder: Any,
    tile: Any,
    channels: int,
    gaussian: _Gaussian,
    rows: tuple[Any, Any],
    compute: Callable[[_Place], None],
) -> None:
    """Code that computes the pixels of rows to which the Gaussian reaches."""
    vector = ir.VectorType(_FLOAT, LANES)
    whole = rows[0].type
    with cgutils.for_range_slice(builder, *rows, ir.Constant(whole, 1), whole) as (row, _):
        down = _Number(builder, builder.sitofp(row, _FLOAT)) - gaussian.y
        centre = gaussian.x + gaussian.slant * down
        highest = gaussian.peak - gaussian.narrow * down * down
        line = builder.mul(row, ir.Constant(whole, channels * TILE))
        for begin in range(0, TILE, LANES):

            def of_channel(channel: int, begin: int = begin) -> Any:
                place = builder.add(line, ir.Constant(whole, channel * TILE + begin))
                return builder.bitcast(builder.gep(tile, [place]), vector.as_pointer())

            # Distance from the nearest of these pixels.
            left, right = centre * -1.0 + float(begin), centre - float(begin + LANES - 1)
            near = left.most(right).most(0.0)
            with builder.if_then(highest - gaussian.precision * near * near >= float(LEAST_LOG2)):
                light = _load(builder, of_channel(0))
                live = light >= MIN_TRANSMITTANCE
                with builder.if_then(_any(builder, live)):
                    off = _vector(builder, [float(begin + lane) for lane in range(LANES)]) - centre
                    exponent = highest - gaussian.precision * off * off
                    there = builder.and_(live, exponent >= float(LEAST_LOG2))
                    compute(_Place(of_channel, light, there, off, down, exponent))


def _add_generator(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Writes LLVM's code of `add`."""
    tile, packed, i, first, last, x, y = arguments
    tile, packed = (
        context.make_array(signature.args[place])(context, builder, array).data
        for place, array in enumerate((tile, packed))
    )
    gaussian = _read_gaussian(builder, _row_of(builder, packed, i, PACKED), x, y)

    def compute(place: _Place) -> None:
        weight = (place.exponent.power_of_two().least(MOST_ALPHA) * place.light).where(place.there)
        _store(builder, place.light - weight, place.channels(0))
        for channel, value in enumerate(gaussian.values, 1):
            _store(builder, weight * value + _load(builder, place.channels(channel)), place.channels(channel))

    _over_rows(builder, tile, CHANNELS, gaussian, (first, last), compute)
    return context.get_dummy_value()


def _row_of(builder: Any, array: Any, row: Any, width: int) -> Any:
    return builder.gep(array, [builder.mul(row, ir.Constant(row.type, width))])


def _add_gradients_generator(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Writes LLVM's code of `add_gradients`."""
    tile, packed, i, first, last, x, y, sums, slot = arguments
    tile, packed, sums = (
        context.make_array(signature.args[place])(context, builder, array).data
        for place, array in ((0, tile), (1, packed), (7, sums))
    )
    vector = ir.VectorType(_FLOAT, LANES)
    gaussian = _read_gaussian(builder, _row_of(builder, packed, i, PACKED), x, y)
    totals = [cgutils.alloca_once(builder, vector) for _ in range(SUMS)]
    for total in totals:
        builder.store(ir.Constant(vector, None), total)

    def compute(place: _Place) -> None:
        alpha = place.exponent.power_of_two()
        covers = alpha >= MOST_ALPHA
        alpha = alpha.least(MOST_ALPHA)
        weight = (alpha * place.light).where(place.there)
        upstream = [_load(builder, place.channels(channel)) for channel in range(1, 5)]
        change = _load(builder, place.channels(5))
        for value, gradient in zip(gaussian.values, upstream, strict=True):
            change = gradient * value + change
        change = weight * change
        behind = _load(builder, place.channels(6)) - change
        _store(builder, place.light - weight, place.channels(0))
        _store(builder, behind, place.channels(6))
        free = builder.and_(place.there, builder.not_(covers))
        pull = (change - behind * (alpha / (_vector(builder, [1.0] * LANES) - alpha))).where(free)
        across, along = pull * place.off, pull * place.down
        added = (pull, across, across * place.off, across * place.down, along, along * place.down)
        for total, value in zip(totals, (*added, *(weight * each for each in upstream)), strict=True):
            _store(builder, _load(builder, total) + value, total)

    _over_rows(builder, tile, BACKWARD_CHANNELS, gaussian, (first, last), compute)
    kind = ir.FunctionType(_FLOAT, [_FLOAT, vector])
    summed = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
    for k, total in enumerate(totals):
        place = builder.gep(_row_of(builder, sums, slot, SUMS), [ir.Constant(ir.IntType(64), k)])
        before = builder.load(place, align=4)
        value = builder.call(summed, [before, builder.load(total)], fastmath=tuple(FASTMATH))
        builder.store(value, place, align=4)
    return context.get_dummy_value()


def _add(typing_context: Any, tile: Any, packed: Any, i: Any, first: Any, last: Any, x: Any, y: Any) -> Any:
    whole = types.intp
    return types.void(tile, packed, whole, whole, whole, whole, whole), _add_generator


def _add_gradients(
    typing_context: Any,
    tile: Any,
    packed: Any,
    i: Any,
    first: Any,
    last: Any,
    x: Any,
    y: Any,
    sums: Any,
    slot: Any,
) -> Any:
    whole = types.intp
    signature = types.void(tile, packed, whole, whole, whole, whole, whole, sums, whole)
    return signature, _add_gradients_generator


add: Any = intrinsic(_add)
"""For kernels: adds Gaussian `i` of `packed` to the rows from `first` to `last` of the tile at pixel (x, y)."""

add_gradients: Any = intrinsic(_add_gradients)
"""For kernels: the same backward; adds to the sums (slots, `SUMS`) of a slot, see `splats_raster`."""
