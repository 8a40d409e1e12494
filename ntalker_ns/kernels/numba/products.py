"""Layers of a small network and the products of their gradients on the CPU, in vector registers.

numba's loops reach a third of a core's peak: the compiler keeps no sums in registers along the inner dimension. So the
innermost part is written as vector code for LLVM: a block of sums, a few rows by a few vectors of columns, stays in
registers from the bias to the ReLU.

Arguments shared by the functions for kernels, all arrays flat and of one type, float32 or float64:
    a: (rows, depth) with any strides; b: (depth, width), contiguous.
    width: a tuple of that length, a constant at compile time.
    c: (rows, width), contiguous, written.
"""

from itertools import chain
from typing import Any, Literal

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ntalker_ns.kernels.numba.common import lean, repeated

_FEATURES = llvm.get_host_cpu_features()
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
"""Bytes of a vector register."""

_WIDE = 2 if VECTOR_BYTES == 32 else 4
"""Vectors side by side in a block of four rows: AVX2 has only sixteen registers."""

_Kind = Literal["sum", "linear", "rectified"]
"""c + a b; bias + factor (of each row) extra + a b; the same with a ReLU."""


def _block(kind: _Kind, rows: int, vectors: int) -> Any:
    """A function for kernels that computes a block of `rows` by `vectors` vectors of c, from a row and a column on."""

    @intrinsic
    def compute_block(
        typing_context: Any,
        a: Any,
        row_stride: Any,
        column_stride: Any,
        depth: Any,
        b: Any,
        width: Any,
        c: Any,
        bias: Any,
        factors: Any,
        extra: Any,
        row: Any,
        column: Any,
    ) -> Any:
        whole = types.intp
        signature = types.void(a, whole, whole, whole, b, whole, c, bias, factors, extra, whole, whole)
        return signature, lambda *generated: _generate(kind, rows, vectors, *generated)

    return compute_block


def _generate(kind: _Kind, rows: int, vectors: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Writes LLVM's code of `_block`."""
    a, row_stride, column_stride, depth, b, width, c, bias, factors, extra, first, column = arguments
    a, b, c, bias, factors, extra = (
        context.make_array(signature.args[place])(context, builder, array).data
        for place, array in zip((0, 4, 6, 7, 8, 9), (a, b, c, bias, factors, extra), strict=True)
    )
    element = context.get_data_type(signature.args[0].dtype)
    size = context.get_abi_sizeof(element)
    vector = ir.VectorType(element, VECTOR_BYTES // size)

    def number(value: int) -> Any:
        return ir.Constant(depth.type, value)

    def vector_at(array: Any, place: Any) -> Any:
        return builder.bitcast(builder.gep(array, [place]), vector.as_pointer())

    def load(place: Any) -> Any:
        return builder.load(place, align=size)

    def repeated_from(array: Any, place: Any) -> Any:
        return repeated(builder, load(builder.gep(array, [place])), vector)

    def multiply_add(total: Any, one: Any, two: Any) -> Any:
        return builder.fadd(total, builder.fmul(one, two, flags=("contract",)), flags=("contract",))

    lines = [builder.add(first, number(row)) for row in range(rows)]
    columns = [builder.add(column, number(each * vector.count)) for each in range(vectors)]
    places = [[vector_at(c, builder.add(builder.mul(line, width), each)) for each in columns] for line in lines]
    if kind == "sum":
        begun = [[load(place) for place in row] for row in places]
    else:
        starts, extras = ([load(vector_at(array, each)) for each in columns] for array in (bias, extra))
        begun = [
            [multiply_add(start, scale, row) for start, row in zip(starts, extras, strict=True)]
            for scale in (repeated_from(factors, line) for line in lines)
        ]
    # LLVM promotes these allocations to registers, since only whole values are loaded and stored.
    sums = [[cgutils.alloca_once_value(builder, value) for value in row] for row in begun]
    with cgutils.for_range(builder, depth, intp=depth.type) as loop:
        b_row = builder.mul(loop.index, width)
        loaded = [load(vector_at(b, builder.add(b_row, each))) for each in columns]
        a_column = builder.mul(loop.index, column_stride)
        for line, row in zip(lines, sums, strict=True):
            value = repeated_from(a, builder.add(a_column, builder.mul(line, row_stride)))
            for total, other in zip(row, loaded, strict=True):
                builder.store(multiply_add(builder.load(total), value, other), total)
    zero = ir.Constant(vector, None)
    for place, total in zip(chain(*places), chain(*sums), strict=True):
        value = builder.load(total)
        if kind == "rectified":
            value = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)  # NaN stays.
        builder.store(value, place, align=size)
    return context.get_dummy_value()


def _product(kind: _Kind) -> Any:
    """A function for kernels that computes all of c."""
    wide_block, narrow_block, single_block = _block(kind, 4, _WIDE), _block(kind, 8, 1), _block(kind, 1, 1)
    adds, rectifies = kind == "sum", kind == "rectified"

    def product(a, row_stride, column_stride, rows, depth, b, width, c, bias, factors, extra):
        w, lanes = len(width), VECTOR_BYTES // c.itemsize
        wide, whole = w - w % (_WIDE * lanes), w - w % lanes
        fours, eights = rows - rows % 4, rows - rows % 8
        for t in range(0, fours, 4):
            for j in range(0, wide, _WIDE * lanes):
                wide_block(a, row_stride, column_stride, depth, b, w, c, bias, factors, extra, t, j)
        for t in range(0, eights, 8):
            for j in range(wide, whole, lanes):
                narrow_block(a, row_stride, column_stride, depth, b, w, c, bias, factors, extra, t, j)
        for t in range(eights, rows):
            for j in range(wide if t < fours else 0, whole, lanes):
                single_block(a, row_stride, column_stride, depth, b, w, c, bias, factors, extra, t, j)
        for t in range(rows):
            for j in range(whole, w):
                total = c[t * w + j] if adds else bias[j] + factors[t] * extra[j]
                for k in range(depth):
                    total += a[t * row_stride + k * column_stride] * b[k * w + j]
                c[t * w + j] = total - total if rectifies and total < 0 else total

    # numba's cache identifies functions by name and by a counter of the process: equal names could be confused.
    product.__name__ = product.__qualname__ = f"{kind}_product"
    return lean(product)


_sum, linear_layer, rectified_layer = _product("sum"), _product("linear"), _product("rectified")
"""c = bias + factors (of each row) times extra + a b, in `rectified_layer` followed by a ReLU; arguments in the order
of `_product`."""


@lean
def multiply_add(a, row_stride, column_stride, rows, depth, b, width, c):
    """c += a b."""
    _sum(a, row_stride, column_stride, rows, depth, b, width, c, c, c, c)
