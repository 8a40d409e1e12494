"""Gaussians into the picture and back: one pass over the Gaussians, and their sorting into strips.

A strip is `STRIP` by `TILE` pixels: a few tiles side by side, which one thread computes.
"""

import math

import numpy as np
from numba import njit

from ntalker_ns.kernels.numba.common import lean
from ntalker_ns.kernels.numba.workers import piecewise, take
from ntalker_ns.kernels.types import FIELD_MARGIN, LEAST_ALPHA, LEAST_QUATERNION, LOW_PASS, NEAR_PLANE

TILE = 16
"""Side of a tile, px."""
STRIP = 128
"""Width of a strip, px."""
CHUNK = 512
"""Gaussians of a piece of work."""

PACKED = 10
"""Numbers of a projected Gaussian: centre x and y, precision, slant, narrow, log opacity, colour, depth. Precision,
narrow and log opacity (see `kernels.reference.splats.Projected`) are those of 2^x instead of exp(x), with the half."""

SUMS = 10
"""Numbers of a Gaussian's gradient in the picture, see `splats_raster`."""

LOG2_E = np.float32(math.log2(math.e))
LEAST_LOG2 = np.float32(math.log2(LEAST_ALPHA))

_ZERO, _ONE, _TWO, _HALF = (np.float32(each) for each in (0.0, 1.0, 2.0, 0.5))
_SLACK = np.float32(1e-3)
"""Px by which a Gaussian's box is widened: rounding must not cost a pixel."""
_LOW_PASS, _NEAR, _LEAST_ALPHA = np.float32(LOW_PASS), np.float32(NEAR_PLANE), np.float32(LEAST_ALPHA)
_MARGIN, _LEAST_QUATERNION = np.float32(FIELD_MARGIN), np.float32(LEAST_QUATERNION)


@lean
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@lean
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@lean
def _plus(a, x, b, y, c, z):
    """a x + b y + c z of numbers a, b, c and triples."""
    return a * x[0] + b * y[0] + c * z[0], a * x[1] + b * y[1] + c * z[1], a * x[2] + b * y[2] + c * z[2]


@lean
def _unit(quaternions, i):
    """The quaternion, divided by its length, and 1 / length; w = 1 and 0 where that is 0."""
    w, x, y, z = quaternions[i, 0], quaternions[i, 1], quaternions[i, 2], quaternions[i, 3]
    squared = w * w + x * x + y * y + z * z
    if squared > _LEAST_QUATERNION:
        inverse = _ONE / np.sqrt(squared)
        return w * inverse, x * inverse, y * inverse, z * inverse, inverse
    if squared <= _LEAST_QUATERNION:
        return _ONE, _ZERO, _ZERO, _ZERO, _ZERO
    return squared, squared, squared, squared, squared


@lean
def _rotation(w, x, y, z):
    """Rows of a unit quaternion's rotation."""
    return (
        (_ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y)),
        (_TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x)),
        (_TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y)),
    )


@lean
def _rows(camera):
    """Rows of the camera's rotation, and its shift."""
    return (
        (camera[0, 0], camera[0, 1], camera[0, 2]),
        (camera[1, 0], camera[1, 1], camera[1, 2]),
        (camera[2, 0], camera[2, 1], camera[2, 2]),
        (camera[0, 3], camera[1, 3], camera[2, 3]),
    )


@lean
def _place(means, i, rows):
    """x right, y down, z in front of the camera."""
    mean = (means[i, 0], means[i, 1], means[i, 2])
    shift = rows[3]
    return _dot(rows[0], mean) + shift[0], -(_dot(rows[1], mean) + shift[1]), -(_dot(rows[2], mean) + shift[2])


@lean
def _depth_key(means, i, rows):
    """See `kernels.reference.splats.depth_keys`."""
    back, total = rows[2], np.float64(rows[3][2])
    for axis in range(3):
        total += np.float64(back[axis]) * np.float64(means[i, axis])
    return np.float32(-total)


@lean
def _axes(log_scales, i, rotation, rows):
    """The ellipsoid's axes in the head's space (rows of coordinates), and in the camera's."""
    a, b, c = np.exp(log_scales[i, 0]), np.exp(log_scales[i, 1]), np.exp(log_scales[i, 2])
    x, y, z = rotation
    own = ((x[0] * a, x[1] * b, x[2] * c), (y[0] * a, y[1] * b, y[2] * c), (z[0] * a, z[1] * b, z[2] * c))
    seen = (
        _plus(rows[0][0], own[0], rows[0][1], own[1], rows[0][2], own[2]),
        _plus(rows[1][0], own[0], rows[1][1], own[1], rows[1][2], own[2]),
        _plus(rows[2][0], own[0], rows[2][1], own[1], rows[2][2], own[2]),
    )
    return own, seen


@lean
def _directions(place, lens):
    """x / z and y / z, held near the picture."""
    fx, fy, cx, cy, width, height = lens
    across, down = _MARGIN * width / fx, _MARGIN * height / fy
    u = min(max(place[0] / place[2], -cx / fx - across), (width - cx) / fx + across)
    v = min(max(place[1] / place[2], -cy / fy - down), (height - cy) / fy + down)
    return u, v


@lean
def _in_picture(place, seen, u, v, lens):
    """The axes of the ellipsoid in the picture, px: rows of x and y."""
    across, down = lens[0] / place[2], lens[1] / place[2]
    x, y, z = seen
    return _plus(across, x, across * u, z, _ZERO, z), _plus(-down, y, down * v, z, _ZERO, z)


@piecewise
def project(means, log_scales, quaternions, opacity_logits, colours, camera, lens, packed, boxes, counter):
    """Writes projected Gaussians and the boxes of pixels they cover: first and last column, first and last row; the
    last is -1 for those that are not drawn."""
    count, rows = means.shape[0], _rows(camera)
    while True:
        first = take(counter) * CHUNK
        if first >= count:
            break
        for i in range(first, min(first + CHUNK, count)):
            boxes[i, 3] = -1
            place = _place(means, i, rows)
            if not place[2] > _NEAR:
                continue
            w, x, y, z, _ = _unit(quaternions, i)
            _, seen = _axes(log_scales, i, _rotation(w, x, y, z), rows)
            u, v = _directions(place, lens)
            across, down = _in_picture(place, seen, u, v, lens)
            normal = _cross(across, down)
            area, a, b, c = _dot(normal, normal), _dot(across, across), _dot(across, down), _dot(down, down)
            widened = area + _LOW_PASS * (a + c) + _LOW_PASS * _LOW_PASS
            a, c = a + _LOW_PASS, c + _LOW_PASS
            opacity = np.sqrt(area / widened) / (_ONE + np.exp(-opacity_logits[i]))
            if not (opacity >= _LEAST_ALPHA and c / widened > _ZERO and _ONE / c > _ZERO):
                continue
            _pack(packed[i], place, a, b, c, widened, opacity, lens, boxes[i])
            packed[i, 6], packed[i, 7], packed[i, 8] = colours[i, 0], colours[i, 1], colours[i, 2]
            packed[i, 9] = _depth_key(means, i, rows)


@lean
def _pack(packed, place, a, b, c, widened, opacity, lens, box):
    """Writes a projected Gaussian but its colour and depth."""
    fx, fy, cx, cy, width, height = lens
    x, y, log_opacity = fx * place[0] / place[2] + cx, fy * place[1] / place[2] + cy, np.log(opacity)
    packed[0], packed[1] = x, y
    packed[2], packed[3], packed[4] = _HALF * LOG2_E * c / widened, b / c, _HALF * LOG2_E / c
    packed[5] = LOG2_E * log_opacity
    # Where alpha is at least its least.
    squared = _TWO * (log_opacity - LEAST_LOG2 / LOG2_E)
    across, down = np.sqrt(squared * a) + _SLACK - _HALF, np.sqrt(squared * c) + _SLACK - _HALF
    if not (x + across >= _ZERO and x - across - _ONE <= width and y + down >= _ZERO and y - down - _ONE <= height):
        return
    if not (np.isfinite(across) and np.isfinite(down)):
        return
    box[0], box[1] = int(max(np.ceil(x - across - _ONE), _ZERO)), int(min(np.floor(x + across), width - _ONE))
    first, last = int(max(np.ceil(y - down - _ONE), _ZERO)), int(min(np.floor(y + down), height - _ONE))
    if box[0] <= box[1] and first <= last:
        box[2], box[3] = first, last


@njit(nogil=True, cache=True)
def sort_by_depth(packed, boxes):
    """Those that are drawn, the nearest first, int32: a radix sort of the depths' bits, which are in order as positive
    numbers are."""
    drawn = 0
    for i in range(len(boxes)):
        drawn += boxes[i, 3] >= 0
    order, other = np.empty(drawn, np.int32), np.empty(drawn, np.int32)
    place = 0
    for i in range(len(boxes)):
        if boxes[i, 3] >= 0:
            order[place] = i
            place += 1
    bits = np.ascontiguousarray(packed[:, 9]).view(np.uint32)
    for shift in (0, 11, 22):
        starts = np.zeros(2049, np.int64)
        for i in order:
            starts[((bits[i] >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        for digit in range(2048):
            starts[digit + 1] += starts[digit]
        for i in order:
            digit = (bits[i] >> np.uint32(shift)) & np.uint32(2047)
            other[starts[digit]] = i
            starts[digit] += 1
        order, other = other, order
    return order


@njit(nogil=True, cache=True)
def sort_into_strips(boxes, order, across, strips):
    """Each strip's Gaussians in the order of depth, side by side.

    Returns:
        Where each strip's begin, and the end; the Gaussians; the first and the last tile and the first and the last row
        of the strip into which each of these reaches; its slot, where slots of a Gaussian are side by side; where each
        Gaussian's slots begin, and the end.
    """
    firsts, starts = np.zeros(len(boxes) + 1, np.int64), np.zeros(strips + 1, np.int64)
    for i in range(len(boxes)):
        found = 0
        if boxes[i, 3] >= 0:
            for row in range(boxes[i, 2] // TILE, boxes[i, 3] // TILE + 1):
                for column in range(boxes[i, 0] // STRIP, boxes[i, 1] // STRIP + 1):
                    starts[row * across + column + 1] += 1
                    found += 1
        firsts[i + 1] = firsts[i] + found
    for strip in range(strips):
        starts[strip + 1] += starts[strip]
    cursors = starts[:-1].copy()
    entries, slots = np.empty(firsts[-1], np.int32), np.empty(firsts[-1], np.int32)
    spans = np.empty((firsts[-1], 4), np.int8)
    for i in order:
        slot = firsts[i]
        for row in range(boxes[i, 2] // TILE, boxes[i, 3] // TILE + 1):
            for column in range(boxes[i, 0] // STRIP, boxes[i, 1] // STRIP + 1):
                place = cursors[row * across + column]
                cursors[row * across + column] = place + 1
                entries[place], slots[place] = i, slot
                spans[place, 0] = max(boxes[i, 0] - column * STRIP, 0) // TILE
                spans[place, 1] = min(boxes[i, 1] - column * STRIP, STRIP - 1) // TILE
                spans[place, 2] = max(boxes[i, 2] - row * TILE, 0)
                spans[place, 3] = min(boxes[i, 3] - row * TILE, TILE - 1)
                slot += 1
    return starts, entries, spans, slots, firsts


@piecewise
def project_gradients(
    means,
    log_scales,
    quaternions,
    opacity_logits,
    camera,
    lens,
    firsts,
    sums,
    to_means,
    to_scales,
    to_quaternions,
    to_logits,
    to_colours,
    to_camera,
    norms,
    counter,
):
    """Writes the gradients of Gaussians from their sums in the picture, those of the camera by pieces, and adds the
    norms of those of projected means, where `norms` is not empty."""
    count, rows = means.shape[0], _rows(camera)
    total = np.empty(SUMS, np.float32)
    while True:
        piece = take(counter)
        first = piece * CHUNK
        if first >= count:
            break
        for i in range(first, min(first + CHUNK, count)):
            to_means[i], to_scales[i], to_quaternions[i], to_colours[i] = _ZERO, _ZERO, _ZERO, _ZERO
            to_logits[i] = _ZERO
            if firsts[i] == firsts[i + 1]:
                continue
            total[:] = _ZERO
            for slot in range(firsts[i], firsts[i + 1]):
                for k in range(SUMS):
                    total[k] += sums[slot, k]
            to_colours[i, 0], to_colours[i, 1], to_colours[i, 2] = total[6], total[7], total[8]
            w, x, y, z, inverse = _unit(quaternions, i)
            rotation = _rotation(w, x, y, z)
            place = _place(means, i, rows)
            own, seen = _axes(log_scales, i, rotation, rows)
            to_place, to_seen, across, down = _back_to_camera(total, place, seen, lens, opacity_logits[i], to_logits, i)
            if len(norms):
                norms[i] += np.sqrt(across * across + down * down)
            to_own = _back_to_head(means, i, rows, own, to_place, to_seen, to_means, to_camera[piece])
            _write_shape(log_scales, i, own, to_own, (w, x, y, z), inverse, to_scales, to_quaternions)


@lean
def _back_to_camera(total, place, seen, lens, logit, to_logits, i):
    """Gradients of the mean and of the axes in the camera's space (x right, y down, z in front for the mean, and the
    axes as they are), and of the projected mean."""
    u, v = _directions(place, lens)
    first, second = _in_picture(place, seen, u, v, lens)
    normal = _cross(first, second)
    area, a, b, c = _dot(normal, normal), _dot(first, first), _dot(first, second), _dot(second, second)
    widened = area + _LOW_PASS * (a + c) + _LOW_PASS * _LOW_PASS
    c = c + _LOW_PASS
    precision, slant, narrow = c / widened, b / c, _ONE / c
    # Of q's parts: q = precision e^2 + narrow d_y^2, and the exponent is -q / 2.
    to_opacity, to_precision = total[0], -_HALF * total[2]
    across, to_slant = precision * total[1], precision * total[3]
    down, to_narrow = narrow * total[4] - slant * across, -_HALF * total[5]
    to_logits[i] = to_opacity / (_ONE + np.exp(logit))
    to_widened = -(to_precision * precision + _HALF * to_opacity) / widened
    to_area = _HALF * to_opacity / area + to_widened
    to_c = to_precision / widened - to_slant * slant / c - to_narrow * narrow * narrow
    to_b = to_slant / c
    to_a, to_c = _LOW_PASS * to_widened, to_c + _LOW_PASS * to_widened
    to_first = _plus(_TWO * to_a, first, to_b, second, _TWO * to_area, _cross(second, normal))
    to_second = _plus(_TWO * to_c, second, to_b, first, _TWO * to_area, _cross(normal, first))
    x, y, z = place
    along_x, along_y = lens[0] / z, lens[1] / z
    to_seen = (
        _plus(along_x, to_first, _ZERO, first, _ZERO, first),
        _plus(-along_y, to_second, _ZERO, first, _ZERO, first),
        _plus(along_x * u, to_first, along_y * v, to_second, _ZERO, first),
    )
    to_x, to_y = across * along_x, down * along_y
    to_z = total[9] - (to_x * x + to_y * y + _dot(first, to_first) + _dot(second, to_second)) / z
    # None where the direction was held.
    if u == x / z:
        to_u = along_x * _dot(to_first, seen[2]) / z
        to_x += to_u
        to_z -= to_u * u
    if v == y / z:
        to_v = along_y * _dot(to_second, seen[2]) / z
        to_y += to_v
        to_z -= to_v * v
    return (to_x, to_y, to_z), to_seen, across, down


@lean
def _back_to_head(means, i, rows, own, to_place, to_seen, to_means, to_camera):
    """Gradients of the axes in the head's space; writes those of the mean, adds those of the camera."""
    along = (to_place[0], -to_place[1], -to_place[2])
    for axis in range(3):
        for other in range(3):
            to_camera[axis, other] += np.float64(along[axis] * means[i, other] + _dot(to_seen[axis], own[other]))
        to_camera[axis, 3] += np.float64(along[axis])
        to_means[i, axis] = along[0] * rows[0][axis] + along[1] * rows[1][axis] + along[2] * rows[2][axis]
    return (
        _plus(rows[0][0], to_seen[0], rows[1][0], to_seen[1], rows[2][0], to_seen[2]),
        _plus(rows[0][1], to_seen[0], rows[1][1], to_seen[1], rows[2][1], to_seen[2]),
        _plus(rows[0][2], to_seen[0], rows[1][2], to_seen[1], rows[2][2], to_seen[2]),
    )


@lean
def _write_shape(log_scales, i, own, to_own, unit, inverse, to_scales, to_quaternions):
    """Writes gradients of scales and quaternion from those of the axes."""
    for k in range(3):
        to_scales[i, k] = to_own[0][k] * own[0][k] + to_own[1][k] * own[1][k] + to_own[2][k] * own[2][k]
    scale = (np.exp(log_scales[i, 0]), np.exp(log_scales[i, 1]), np.exp(log_scales[i, 2]))
    (a, b, c), (d, e, f), (g, h, j) = to_own
    a, b, c = a * scale[0], b * scale[1], c * scale[2]
    d, e, f = d * scale[0], e * scale[1], f * scale[2]
    g, h, j = g * scale[0], h * scale[1], j * scale[2]
    w, x, y, z = unit
    to_w = _TWO * (z * (d - b) + y * (c - g) + x * (h - f))
    to_x = _TWO * (y * (b + d) + z * (c + g) + w * (h - f) - _TWO * x * (e + j))
    to_y = _TWO * (x * (b + d) + z * (f + h) + w * (c - g) - _TWO * y * (a + j))
    to_z = _TWO * (x * (c + g) + y * (f + h) + w * (d - b) - _TWO * z * (a + e))
    along = w * to_w + x * to_x + y * to_y + z * to_z
    to_quaternions[i, 0], to_quaternions[i, 1] = inverse * (to_w - w * along), inverse * (to_x - x * along)
    to_quaternions[i, 2], to_quaternions[i, 3] = inverse * (to_y - y * along), inverse * (to_z - z * along)
