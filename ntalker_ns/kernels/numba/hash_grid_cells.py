"""The cell around one point of a hash grid on the CPU, in vector registers: interpolation and its gradients.

numba's loops would move the features of an entry one by one, through memory. So the arithmetic at a cell's corners is
written as vector code for LLVM: all features of an entry stay in one register, from the table to the result.

Arguments shared by the functions for kernels, contiguous arrays of one type, float32 or float64:
    table: features of a level, (entries * features,).
    corners: (2^dims, points) uint32, the entries at the corners of each point's cell, x fastest.
    fractions: (dims, points) where in its cell each point is.
    point: which of them.
    axes, lanes: tuples whose lengths are the numbers of axes and of features per entry.
    place: index of the first feature in the array before it.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ntalker_ns.kernels.numba.common import FASTMATH, repeated

_FLAGS = tuple(sorted(FASTMATH))

_vector_code: Any = intrinsic
"""Typed as Any: callers leave out the first argument, numba's own."""


@_vector_code
def interpolate(
    _: Any, table: Any, corners: Any, fractions: Any, point: Any, axes: Any, lanes: Any, output: Any, place: Any
) -> Any:
    """Writes a point's features to a place of `output`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell = _Cell(context, builder, signature, arguments)
        values = [cell.load(entry) for entry in cell.entries]
        for weight in cell.weights:
            values = cell.blend(values, weight)
        cell.store(values[0], cell.at(6, arguments[7]))
        return context.get_dummy_value()

    return types.void(table, corners, fractions, types.intp, axes, lanes, output, types.intp), generate


@_vector_code
def add_shares(
    _: Any, table: Any, corners: Any, fractions: Any, point: Any, axes: Any, lanes: Any, gradient: Any, place: Any
) -> Any:
    """Adds a point's gradient to that of each corner in `table`: the transpose of `interpolate`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell = _Cell(context, builder, signature, arguments)
        values = [cell.load(cell.at(6, arguments[7]))]
        for weight in reversed(cell.weights):
            values = [share for value in values for share in cell.split(value, weight)]
        for value, entry in zip(values, cell.entries, strict=True):
            cell.add(value, entry)
        return context.get_dummy_value()

    return types.void(table, corners, fractions, types.intp, axes, lanes, gradient, types.intp), generate


@_vector_code
def add_slopes(
    _: Any,
    table: Any,
    corners: Any,
    fractions: Any,
    point: Any,
    axes: Any,
    lanes: Any,
    gradient: Any,
    place: Any,
    scale: Any,
    slopes: Any,
    row: Any,
) -> Any:
    """Adds a point's gradient times the derivative of `interpolate` along each axis to `slopes` from index `row` on,
    axis after axis, one value per feature; an axis has `scale` cells."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cell = _Cell(context, builder, signature, arguments)
        features = [cell.load(entry) for entry in cell.entries]
        upstream = cell.product(cell.load(cell.at(6, arguments[7])), cell.repeated(arguments[8]))
        for axis in range(len(axes)):
            values = features
            for other, weight in enumerate(cell.weights):
                values = cell.steps(values) if other == axis else cell.blend(values, weight)
            cell.add(cell.product(upstream, values[0]), cell.at(9, arguments[10], axis * len(lanes)))
        return context.get_dummy_value()

    whole = types.intp
    arrays = table, corners, fractions, whole, axes, lanes, gradient, whole
    return types.void(*arrays, slopes.dtype, slopes, whole), generate


class _Cell:
    """Code shared by the functions.

    Attributes:
        weights: the point's fraction along each axis, repeated for each feature.
        entries: addresses of each corner's features, x fastest.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._builder, self._whole = builder, arguments[3].type
        self._arrays = {
            number: context.make_array(kind)(context, builder, arguments[number])
            for number, kind in enumerate(signature.args)
            if isinstance(kind, types.Array)
        }
        axes, lanes = (len(each) for each in signature.args[4:6])
        element = context.get_data_type(signature.args[0].dtype)
        self._vector, self._size = ir.VectorType(element, lanes), context.get_abi_sizeof(element)
        corners = [self._value(1, corner, arguments[3]) for corner in range(1 << axes)]
        fractions = [self._value(2, axis, arguments[3]) for axis in range(axes)]
        self.weights = [self.repeated(fraction) for fraction in fractions]
        self.entries = [
            self.at(0, builder.mul(builder.zext(corner, self._whole), self._number(lanes))) for corner in corners
        ]

    def at(self, array: int, place: Any, further: int = 0) -> Any:
        """The address of an index of an array."""
        place = self._builder.add(place, self._number(further))
        return self._builder.bitcast(self._builder.gep(self._arrays[array].data, [place]), self._vector.as_pointer())

    def load(self, where: Any) -> Any:
        """The values at an address."""
        return self._builder.load(where, align=self._size)

    def store(self, values: Any, where: Any) -> None:
        """Writes values to an address."""
        self._builder.store(values, where, align=self._size)

    def add(self, values: Any, where: Any) -> None:
        """Adds values to those at an address."""
        self.store(self._builder.fadd(self.load(where), values, flags=_FLAGS), where)

    def repeated(self, value: Any) -> Any:
        """A value for each feature."""
        return repeated(self._builder, value, self._vector)

    def product(self, one: Any, other: Any) -> Any:
        """One times other."""
        return self._builder.fmul(one, other, flags=_FLAGS)

    def steps(self, values: list[Any]) -> list[Any]:
        """Difference of each second value from the one before it."""
        return [self._builder.fsub(b, a, flags=_FLAGS) for a, b in zip(values[::2], values[1::2], strict=True)]

    def blend(self, values: list[Any], weight: Any) -> list[Any]:
        """Interpolates between each two values: the first where the weight is 0."""
        steps = zip(values[::2], self.steps(values), strict=True)
        return [self._builder.fadd(a, self.product(weight, step), flags=_FLAGS) for a, step in steps]

    def split(self, value: Any, weight: Any) -> tuple[Any, Any]:
        """A value split between two corners."""
        second = self.product(weight, value)
        return self._builder.fsub(value, second, flags=_FLAGS), second

    def _number(self, value: int) -> Any:
        return ir.Constant(self._whole, value)

    def _value(self, matrix: int, row: int, column: Any) -> Any:
        """An element of a matrix."""
        array = self._arrays[matrix]
        begin = self._builder.mul(self._builder.extract_value(array.shape, 1), self._number(row))
        return self._builder.load(self._builder.gep(array.data, [self._builder.add(begin, column)]))
