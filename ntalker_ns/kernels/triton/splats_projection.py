"""Gaussians into the picture and back on CUDA, a block of Gaussians in a program.

Names and formulas are those of `kernels.numba.splats_projection`.
"""

# Kernels are compiled by Triton, whose types (constants, ranges, subscripts) are not those of Python.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false
import math

import triton
import triton.language as tl

from ntalker_ns.kernels.types import FIELD_MARGIN, LEAST_ALPHA, LEAST_QUATERNION, LOW_PASS, NEAR_PLANE

BLOCK = 128
"""Gaussians of a program."""
PACKED = 10
"""Numbers of a projected Gaussian: centre x and y, precision, slant, narrow, log opacity, colour, depth. Precision,
narrow and log opacity (see `kernels.reference.splats.Projected`) are those of 2^x instead of exp(x), with the half."""
SUMS = 10
"""Numbers of a Gaussian's gradient in the picture, see `splats_raster.composite_gradients`."""

# Where kernels can read them.
MARGIN, LEAST, QUATERNION = tl.constexpr(FIELD_MARGIN), tl.constexpr(LEAST_ALPHA), tl.constexpr(LEAST_QUATERNION)
WIDENING, NEAR = tl.constexpr(LOW_PASS), tl.constexpr(NEAR_PLANE)
LOG2_E, HALF_LOG2_E = tl.constexpr(math.log2(math.e)), tl.constexpr(0.5 * math.log2(math.e))
LOG_LEAST = tl.constexpr(math.log(LEAST_ALPHA))
SLACK = tl.constexpr(1e-3)
"""Px by which a Gaussian's box is widened: rounding must not cost a pixel."""
NOWHERE = tl.constexpr(1 << 30)
"""First column and row of an empty box."""
PACKED_WIDTH, SUMS_WIDTH = tl.constexpr(PACKED), tl.constexpr(SUMS)


@triton.jit
def _three(values, i, there):
    row = values + 3 * i
    return (
        tl.load(row, mask=there, other=0),
        tl.load(row + 1, mask=there, other=0),
        tl.load(row + 2, mask=there, other=0),
    )


@triton.jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@triton.jit
def _plus(a, x, b, y, c, z):
    """a x + b y + c z of numbers a, b, c and triples."""
    return a * x[0] + b * y[0] + c * z[0], a * x[1] + b * y[1] + c * z[1], a * x[2] + b * y[2] + c * z[2]


@triton.jit
def _unit(quaternions, i, there):
    """The quaternion, divided by its length, and 1 / length; w = 1 and 0 where that is 0."""
    row = quaternions + 4 * i
    w, x = tl.load(row, mask=there, other=0), tl.load(row + 1, mask=there, other=0)
    y, z = tl.load(row + 2, mask=there, other=0), tl.load(row + 3, mask=there, other=0)
    squared = w * w + x * x + y * y + z * z
    none = squared <= QUATERNION
    inverse = tl.where(none, 0.0, 1.0 / tl.sqrt(tl.where(none, 1.0, squared)))
    return tl.where(none, 1.0, w * inverse), x * inverse, y * inverse, z * inverse, inverse


@triton.jit
def _rotation(w, x, y, z):
    """Rows of a unit quaternion's rotation."""
    first = (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y))
    second = (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x))
    third = (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y))
    return first, second, third


@triton.jit
def _camera_row(camera, axis: tl.constexpr):
    row = camera + 4 * axis
    return tl.load(row), tl.load(row + 1), tl.load(row + 2)


@triton.jit
def _place(mean, right, up, back, camera):
    """x right, y down, z in front of the camera."""
    x, y = _dot(right, mean) + tl.load(camera + 3), -(_dot(up, mean) + tl.load(camera + 7))
    return x, y, -(_dot(back, mean) + tl.load(camera + 11))


@triton.jit
def _depth_key(mean, back, camera):
    """See `kernels.reference.splats.depth_keys`."""
    along = mean[0].to(tl.float64) * back[0].to(tl.float64) + mean[1].to(tl.float64) * back[1].to(tl.float64)
    along += mean[2].to(tl.float64) * back[2].to(tl.float64) + tl.load(camera + 11).to(tl.float64)
    return (-along).to(tl.float32)


@triton.jit
def _scaled(row, scale):
    return row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]


@triton.jit
def _seen(axis, first, second, third):
    """A row of the ellipsoid's axes in the camera's space."""
    return _plus(axis[0], first, axis[1], second, axis[2], third)


@triton.jit
def _directions(place, fx, fy, cx, cy, width, height):
    """x / z and y / z, held near the picture."""
    across, down = width * MARGIN / fx, height * MARGIN / fy
    u = tl.minimum(tl.maximum(place[0] / place[2], -cx / fx - across), (width - cx) / fx + across)
    v = tl.minimum(tl.maximum(place[1] / place[2], -cy / fy - down), (height - cy) / fy + down)
    return u, v


@triton.jit
def _in_picture(place, seen_x, seen_y, seen_z, u, v, fx, fy):
    """The axes of the ellipsoid in the picture, px: rows of x and y."""
    across, down = fx / place[2], fy / place[2]
    return _plus(across, seen_x, across * u, seen_z, 0.0, seen_z), _plus(-down, seen_y, down * v, seen_z, 0.0, seen_z)


@triton.jit(do_not_specialize=["count"])
def project_gaussians(
    means,
    log_scales,
    quaternions,
    opacity_logits,
    colours,
    camera,
    packed,
    boxes,
    count,
    fx,
    fy,
    cx,
    cy,
    width,
    height,
    BLOCK: tl.constexpr,
):
    """Writes projected Gaussians and the boxes of pixels they cover: first and last column, first and last row."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = i < count
    right, up, back = _camera_row(camera, 0), _camera_row(camera, 1), _camera_row(camera, 2)
    mean = _three(means, i, there)
    place = _place(mean, right, up, back, camera)
    w, x, y, z, _ = _unit(quaternions, i, there)
    first, second, third = _rotation(w, x, y, z)
    scale = _three(log_scales, i, there)
    scale = tl.exp(scale[0]), tl.exp(scale[1]), tl.exp(scale[2])
    first, second, third = _scaled(first, scale), _scaled(second, scale), _scaled(third, scale)
    seen_z = _seen(back, first, second, third)
    u, v = _directions(place, fx, fy, cx, cy, width, height)
    across, down = _in_picture(
        place, _seen(right, first, second, third), _seen(up, first, second, third), seen_z, u, v, fx, fy
    )
    normal = _cross(across, down)
    area, a, b, c = _dot(normal, normal), _dot(across, across), _dot(across, down), _dot(down, down)
    widened = area + (a + c) * WIDENING + WIDENING * WIDENING
    a, c = a + WIDENING, c + WIDENING
    logit = tl.load(opacity_logits + i, mask=there, other=0)
    opacity = tl.sqrt(area / widened) / (1.0 + tl.exp(-logit))
    log_opacity = tl.log(opacity)
    middle_x, middle_y = fx * place[0] / place[2] + cx, fy * place[1] / place[2] + cy
    # Where alpha is at least its least.
    squared = 2.0 * (log_opacity - LOG_LEAST)
    wide, high = tl.sqrt(squared * a) + SLACK - 0.5, tl.sqrt(squared * c) + SLACK - 0.5
    # Comparisons with what is no number are false.
    drawn = (place[2] > NEAR) & (opacity >= LEAST) & (c / widened > 0.0) & (1.0 / c > 0.0)
    drawn &= (wide < float("inf")) & (high < float("inf"))
    drawn &= (middle_x + wide >= 0.0) & (middle_x - wide - 1.0 <= width)
    drawn &= (middle_y + high >= 0.0) & (middle_y - high - 1.0 <= height)
    box = boxes + 4 * i
    left, top = tl.ceil(middle_x - wide - 1.0), tl.ceil(middle_y - high - 1.0)
    right_end, bottom = tl.floor(middle_x + wide), tl.floor(middle_y + high)
    tl.store(box, _column(left, width, drawn, NOWHERE), mask=there)
    tl.store(box + 1, _column(right_end, width, drawn, -1), mask=there)
    tl.store(box + 2, _column(top, height, drawn, NOWHERE), mask=there)
    tl.store(box + 3, _column(bottom, height, drawn, -1), mask=there)
    row = packed + i * PACKED_WIDTH
    tl.store(row, middle_x, mask=there)
    tl.store(row + 1, middle_y, mask=there)
    tl.store(row + 2, c / widened * HALF_LOG2_E, mask=there)
    tl.store(row + 3, b / c, mask=there)
    tl.store(row + 4, 1.0 / c * HALF_LOG2_E, mask=there)
    tl.store(row + 5, log_opacity * LOG2_E, mask=there)
    colour = _three(colours, i, there)
    tl.store(row + 6, colour[0], mask=there)
    tl.store(row + 7, colour[1], mask=there)
    tl.store(row + 8, colour[2], mask=there)
    tl.store(row + 9, tl.where(drawn, _depth_key(mean, back, camera), float("inf")), mask=there)


@triton.jit
def _column(place, size, drawn, otherwise):
    """A column or row of pixels within the picture."""
    inside = tl.minimum(tl.maximum(tl.where(drawn, place, 0.0), 0.0), size - 1.0)
    return tl.where(drawn, inside.to(tl.int32), otherwise)


@triton.jit
def _add_of_camera(to_camera, axis: tl.constexpr, along, mean, seen, first, second, third):
    """Adds a block's gradient of a row of the camera."""
    row = to_camera + 4 * axis
    tl.atomic_add(row, tl.sum(along * mean[0] + _dot(seen, first), axis=0))
    tl.atomic_add(row + 1, tl.sum(along * mean[1] + _dot(seen, second), axis=0))
    tl.atomic_add(row + 2, tl.sum(along * mean[2] + _dot(seen, third), axis=0))
    tl.atomic_add(row + 3, tl.sum(along, axis=0))


@triton.jit
def _kept(drawn, values):
    """0 for those that are not drawn."""
    return tl.where(drawn, values[0], 0.0), tl.where(drawn, values[1], 0.0), tl.where(drawn, values[2], 0.0)


@triton.jit
def _store_three(values, i, there, numbers):
    row = values + 3 * i
    tl.store(row, numbers[0], mask=there)
    tl.store(row + 1, numbers[1], mask=there)
    tl.store(row + 2, numbers[2], mask=there)


@triton.jit(do_not_specialize=["count"])
def project_gradients(
    means,
    log_scales,
    quaternions,
    opacity_logits,
    camera,
    boxes,
    sums,
    to_means,
    to_scales,
    to_quaternions,
    to_logits,
    to_colours,
    to_camera,
    norms,
    count,
    fx,
    fy,
    cx,
    cy,
    width,
    height,
    WITH_NORMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the gradients of Gaussians from their sums in the picture; adds those of the camera and the norms of
    those of projected means."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = i < count
    # All others keep the gradients' zeros.
    drawn = tl.load(boxes + 4 * i + 3, mask=there, other=-1) >= 0
    right, up, back = _camera_row(camera, 0), _camera_row(camera, 1), _camera_row(camera, 2)
    mean = _kept(drawn, _three(means, i, drawn))
    place = _place(mean, right, up, back, camera)
    z = tl.where(drawn, place[2], 1.0)
    place = tl.where(drawn, place[0], 0.0), tl.where(drawn, place[1], 0.0), z
    w, x, y, k, inverse = _unit(quaternions, i, drawn)
    own_x, own_y, own_z = _rotation(w, x, y, k)
    scale = _three(log_scales, i, drawn)
    scale = tl.exp(scale[0]), tl.exp(scale[1]), tl.exp(scale[2])
    own_x, own_y, own_z = _scaled(own_x, scale), _scaled(own_y, scale), _scaled(own_z, scale)
    seen_z = _seen(back, own_x, own_y, own_z)
    u, v = _directions(place, fx, fy, cx, cy, width, height)
    first, second = _in_picture(
        place, _seen(right, own_x, own_y, own_z), _seen(up, own_x, own_y, own_z), seen_z, u, v, fx, fy
    )
    normal = _cross(first, second)
    area, a, b, c = _dot(normal, normal), _dot(first, first), _dot(first, second), _dot(second, second)
    widened = area + (a + c) * WIDENING + WIDENING * WIDENING
    c = c + WIDENING
    precision, slant, narrow = c / widened, b / c, 1.0 / c
    total = sums + i * SUMS_WIDTH
    # Of q's parts: q = precision e^2 + narrow d_y^2, and the exponent is -q / 2.
    to_opacity = tl.load(total, mask=drawn, other=0)
    across = precision * tl.load(total + 1, mask=drawn, other=0)
    to_precision = -0.5 * tl.load(total + 2, mask=drawn, other=0)
    to_slant = precision * tl.load(total + 3, mask=drawn, other=0)
    down = narrow * tl.load(total + 4, mask=drawn, other=0) - slant * across
    to_narrow = -0.5 * tl.load(total + 5, mask=drawn, other=0)
    colour = (
        tl.load(total + 6, mask=drawn, other=0),
        tl.load(total + 7, mask=drawn, other=0),
        tl.load(total + 8, mask=drawn, other=0),
    )
    _store_three(to_colours, i, drawn, colour)
    if WITH_NORMS:
        before = tl.load(norms + i, mask=drawn, other=0)
        tl.store(norms + i, before + tl.sqrt(across * across + down * down), mask=drawn)
    logit = tl.load(opacity_logits + i, mask=drawn, other=0)
    tl.store(to_logits + i, to_opacity / (1.0 + tl.exp(logit)), mask=drawn)
    to_widened = -(to_precision * precision + 0.5 * to_opacity) / widened
    to_area = 0.5 * to_opacity / tl.where(drawn, area, 1.0) + to_widened
    to_c = to_precision / widened - to_slant * slant / c - to_narrow * narrow * narrow + to_widened * WIDENING
    to_a, to_b = to_widened * WIDENING, to_slant / c
    to_first = _plus(2.0 * to_a, first, to_b, second, 2.0 * to_area, _cross(second, normal))
    to_second = _plus(2.0 * to_c, second, to_b, first, 2.0 * to_area, _cross(normal, first))
    along_x, along_y = fx / z, fy / z
    of_x = _kept(drawn, _plus(along_x, to_first, 0.0, first, 0.0, first))
    of_y = _kept(drawn, _plus(-along_y, to_second, 0.0, first, 0.0, first))
    of_z = _kept(drawn, _plus(along_x * u, to_first, along_y * v, to_second, 0.0, first))
    to_x, to_y = across * along_x, down * along_y
    to_z = tl.load(total + 9, mask=drawn, other=0)
    to_z -= (to_x * place[0] + to_y * place[1] + _dot(first, to_first) + _dot(second, to_second)) / z
    # None where the direction was held.
    to_u = tl.where(u == place[0] / z, along_x * _dot(to_first, seen_z) / z, 0.0)
    to_v = tl.where(v == place[1] / z, along_y * _dot(to_second, seen_z) / z, 0.0)
    along = _kept(drawn, (to_x + to_u, -(to_y + to_v), to_u * u + to_v * v - to_z))
    _add_of_camera(to_camera, 0, along[0], mean, of_x, own_x, own_y, own_z)
    _add_of_camera(to_camera, 1, along[1], mean, of_y, own_x, own_y, own_z)
    _add_of_camera(to_camera, 2, along[2], mean, of_z, own_x, own_y, own_z)
    _store_three(to_means, i, drawn, _plus(along[0], right, along[1], up, along[2], back))
    to_own_x = _plus(right[0], of_x, up[0], of_y, back[0], of_z)
    to_own_y = _plus(right[1], of_x, up[1], of_y, back[1], of_z)
    to_own_z = _plus(right[2], of_x, up[2], of_y, back[2], of_z)
    _store_three(to_scales, i, drawn, _of_scales(to_own_x, to_own_y, to_own_z, own_x, own_y, own_z))
    to_own_x, to_own_y, to_own_z = _scaled(to_own_x, scale), _scaled(to_own_y, scale), _scaled(to_own_z, scale)
    _store_quaternions(to_quaternions, i, drawn, w, x, y, k, inverse, to_own_x, to_own_y, to_own_z)


@triton.jit
def _of_scales(to_x, to_y, to_z, x, y, z):
    return (
        to_x[0] * x[0] + to_y[0] * y[0] + to_z[0] * z[0],
        to_x[1] * x[1] + to_y[1] * y[1] + to_z[1] * z[1],
        to_x[2] * x[2] + to_y[2] * y[2] + to_z[2] * z[2],
    )


@triton.jit
def _store_quaternions(to_quaternions, i, drawn, w, x, y, z, inverse, first, second, third):
    """Writes gradients of quaternions from those of rotations."""
    left, top, side = third[1] - second[2], first[2] - third[0], second[0] - first[1]
    xy, xz, yz = first[1] + second[0], first[2] + third[0], second[2] + third[1]
    to_w = 2.0 * (z * side + y * top + x * left)
    to_x = 2.0 * (y * xy + z * xz + w * left - 2.0 * x * (second[1] + third[2]))
    to_y = 2.0 * (x * xy + z * yz + w * top - 2.0 * y * (first[0] + third[2]))
    to_z = 2.0 * (x * xz + y * yz + w * side - 2.0 * z * (first[0] + second[1]))
    along = w * to_w + x * to_x + y * to_y + z * to_z
    row = to_quaternions + 4 * i
    tl.store(row, inverse * (to_w - w * along), mask=drawn)
    tl.store(row + 1, inverse * (to_x - x * along), mask=drawn)
    tl.store(row + 2, inverse * (to_y - y * along), mask=drawn)
    tl.store(row + 3, inverse * (to_z - z * along), mask=drawn)
