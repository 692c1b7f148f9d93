"""The fused CPU ray marcher: image and per-ray gradient moments in one pass (Numba).

For a ray $x(t) = s + t\\,e$ with $t \\in [0, 1]$ from the source to the detector, sampled at $t_k = (k + 1/2)\\,dt$,

$$I = dt \\sum_k V(x(t_k)), \\qquad
\\frac{\\partial I}{\\partial s} = dt \\sum_k \\nabla V(x(t_k)), \\qquad
\\frac{\\partial I}{\\partial e} = dt \\sum_k t_k \\nabla V(x(t_k)).$$

The eight voxels that are read for $V$ also give $\\nabla V$, so the two gradient moments need no second pass and no
autograd graph over the samples. The sample positions $t_k$ do not depend on the pose, so the moments are the exact
derivatives of the sum that approximates the integral.

All positions here are in voxels of a volume padded by one voxel of zeros, flattened with the last axis fastest. Reading
eight voxels for each sample takes most of the time. Therefore a float32 volume is stored as *pairs*: each 32-bit word
holds a voxel and its neighbour in x, both as 16-bit multiples of 1/65535 of the largest value. This halves the number
of reads; the rounding error is below 1e-5 of the largest value. A float64 volume is stored unchanged.
"""

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

BLOCK_VOXELS = 4
PAIR_LEVELS = 65535


def _fetch(flat, i):
    """A voxel, and the difference to its neighbour in x; in units of the packed volume's `scale`."""
    raise NotImplementedError("compiled code only")


@overload(_fetch, inline="always")
def _overload_fetch(flat, i):
    if flat.dtype == types.uint32:

        def fetch(flat, i):
            pair = flat[i]
            low, high = np.int32(pair & np.uint32(0xFFFF)), np.int32(pair >> np.uint32(16))
            return np.float32(low), np.float32(high - low)

    else:

        def fetch(flat, i):
            return flat[i], flat[i + 1] - flat[i]

    return fetch


@numba.njit(inline="always")
def _clip(origin, direction, upper, t_lo, t_hi):
    """The part of `[t_lo, t_hi]` for which `origin + t * direction` lies within `[0, upper]`."""
    if abs(direction) < 1e-12:
        if origin <= 0.0 or origin >= upper:
            return 1.0, 0.0
        return t_lo, t_hi
    ta = -origin / direction
    tb = (upper - origin) / direction
    return max(t_lo, min(ta, tb)), min(t_hi, max(ta, tb))


@numba.njit(inline="always")
def _ray_span(sx, sy, sz, ex, ey, ez, nx, ny, nz, dt, occupancy):
    """Range `[first, last)` of the samples of a ray that may be near a non-zero voxel."""
    margin = 1e-3
    t_lo, t_hi = _clip(sx - margin, ex, nx - 1 - 2 * margin, 0.0, 1.0)
    t_lo, t_hi = _clip(sy - margin, ey, ny - 1 - 2 * margin, t_lo, t_hi)
    t_lo, t_hi = _clip(sz - margin, ez, nz - 1 - 2 * margin, t_lo, t_hi)
    if t_hi <= t_lo:
        return 0, 0
    first = max(int(np.ceil(t_lo / dt - 0.5)), 0)
    last = int(np.floor(t_hi / dt - 0.5)) + 1
    largest = max(abs(ex), abs(ey), abs(ez)) * dt
    stride = max(int(BLOCK_VOXELS / largest), 1)
    while first < last:
        t = (first + 0.5) * dt
        if occupancy[
            int(sz + t * ez) // BLOCK_VOXELS, int(sy + t * ey) // BLOCK_VOXELS, int(sx + t * ex) // BLOCK_VOXELS
        ]:
            break
        first += stride
    while last > first:
        t = (last - 0.5) * dt
        if occupancy[
            int(sz + t * ez) // BLOCK_VOXELS, int(sy + t * ey) // BLOCK_VOXELS, int(sx + t * ex) // BLOCK_VOXELS
        ]:
            break
        last -= stride
    return first, last


@numba.njit(inline="always")
def _interleaved(task, n_lines):
    """Image line of a task: even lines first, then odd ones, which balances the load between threads.

    A thread gets a contiguous range of tasks, and lines in the middle of an image take longest.
    """
    half = (n_lines + 1) // 2
    return 2 * task if task < half else 2 * (task - half) + 1


@numba.njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def march_with_moments(flat, scale, shape, occupancy, source, ray_matrix, height, width, dt):
    """Integrals and gradient moments of every ray.

    Args:
        flat: `(Z * Y * X,)` padded volume, x fastest; uint32 pairs or float64 values.
        scale: attenuation of one unit of `flat`; its type, float32 or float64, is the type of the results.
        shape: `(Z, Y, X)` of the padded volume.
        occupancy: one boolean for each block of `BLOCK_VOXELS`^3 voxels: false if all samples within one block length
            are zero.
        source: `(B, 3)` source in padded voxels `(x, y, z)`.
        ray_matrix: `(B, 3, 3)`; the ray through pixel `(u, v)` is `ray_matrix @ (u, v, 1)`.
        height, width: size of the image in pixels.
        dt: step in units of the ray parameter.

    Returns:
        `(B, H, W)` integrals and `(B, H, W, 6)` moments: derivatives with respect to `s` (three), then `e` (three).
    """
    nz, ny, nx = shape
    n_poses = source.shape[0]
    row, plane = np.uint32(nx), np.uint32(nx * ny)
    real = type(scale)
    image = np.zeros((n_poses, height, width), real)
    moments = np.zeros((n_poses, height, width, 6), real)
    n_lines = n_poses * height
    for task in numba.prange(n_lines):
        line = _interleaved(task, n_lines)
        b, v = line // height, line % height
        sx, sy, sz = source[b, 0], source[b, 1], source[b, 2]
        m = ray_matrix[b]
        for u in range(width):
            ex = m[0, 0] * u + m[0, 1] * v + m[0, 2]
            ey = m[1, 0] * u + m[1, 1] * v + m[1, 2]
            ez = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            first, last = _ray_span(sx, sy, sz, ex, ey, ez, nx, ny, nz, dt, occupancy)
            if last <= first:
                continue
            total = real(0.0)
            gx = gy = gz = real(0.0)
            hx = hy = hz = real(0.0)
            t0 = (first + 0.5) * dt
            x0, y0, z0 = real(sx + t0 * ex), real(sy + t0 * ey), real(sz + t0 * ez)
            dx, dy, dz = real(ex * dt), real(ey * dt), real(ez * dt)
            for k in range(np.int32(last - first)):
                step = real(k)
                x = x0 + step * dx
                y = y0 + step * dy
                z = z0 + step * dz
                ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
                fx, fy, fz = x - real(ix), y - real(iy), z - real(iz)
                i = np.uint32(iz * plane + iy * row + ix)
                v000, d00 = _fetch(flat, i)
                v010, d01 = _fetch(flat, np.uint32(i + row))
                v100, d10 = _fetch(flat, np.uint32(i + plane))
                v110, d11 = _fetch(flat, np.uint32(i + plane + row))
                c00 = v000 + fx * d00
                c01 = v010 + fx * d01
                c10 = v100 + fx * d10
                c11 = v110 + fx * d11
                e0 = c01 - c00
                e1 = c11 - c10
                c0 = c00 + fy * e0
                c1 = c10 + fy * e1
                d0 = d00 + fy * (d01 - d00)
                d1 = d10 + fy * (d11 - d10)
                vz = c1 - c0
                vy = e0 + fz * (e1 - e0)
                vx = d0 + fz * (d1 - d0)
                total += c0 + fz * vz
                gx += vx
                gy += vy
                gz += vz
                hx += step * vx
                hy += step * vy
                hz += step * vz
            rdt, rt0 = real(dt), real(t0)
            factor = rdt * scale
            image[b, v, u] = total * factor
            moments[b, v, u, 0] = gx * factor
            moments[b, v, u, 1] = gy * factor
            moments[b, v, u, 2] = gz * factor
            moments[b, v, u, 3] = (rt0 * gx + rdt * hx) * factor
            moments[b, v, u, 4] = (rt0 * gy + rdt * hy) * factor
            moments[b, v, u, 5] = (rt0 * gz + rdt * hz) * factor
    return image, moments


@numba.njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def march(flat, scale, shape, occupancy, source, ray_matrix, height, width, dt):
    """`(B, H, W)` integrals without gradient moments; arguments as for `march_with_moments`."""
    nz, ny, nx = shape
    n_poses = source.shape[0]
    row, plane = np.uint32(nx), np.uint32(nx * ny)
    real = type(scale)
    image = np.zeros((n_poses, height, width), real)
    n_lines = n_poses * height
    for task in numba.prange(n_lines):
        line = _interleaved(task, n_lines)
        b, v = line // height, line % height
        sx, sy, sz = source[b, 0], source[b, 1], source[b, 2]
        m = ray_matrix[b]
        for u in range(width):
            ex = m[0, 0] * u + m[0, 1] * v + m[0, 2]
            ey = m[1, 0] * u + m[1, 1] * v + m[1, 2]
            ez = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            first, last = _ray_span(sx, sy, sz, ex, ey, ez, nx, ny, nz, dt, occupancy)
            total = real(0.0)
            t0 = (first + 0.5) * dt
            x0, y0, z0 = real(sx + t0 * ex), real(sy + t0 * ey), real(sz + t0 * ez)
            dx, dy, dz = real(ex * dt), real(ey * dt), real(ez * dt)
            for k in range(np.int32(last - first)):
                step = real(k)
                x = x0 + step * dx
                y = y0 + step * dy
                z = z0 + step * dz
                ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
                fx, fy, fz = x - real(ix), y - real(iy), z - real(iz)
                i = np.uint32(iz * plane + iy * row + ix)
                v000, d00 = _fetch(flat, i)
                v010, d01 = _fetch(flat, np.uint32(i + row))
                v100, d10 = _fetch(flat, np.uint32(i + plane))
                v110, d11 = _fetch(flat, np.uint32(i + plane + row))
                c00, c01 = v000 + fx * d00, v010 + fx * d01
                c10, c11 = v100 + fx * d10, v110 + fx * d11
                c0 = c00 + fy * (c01 - c00)
                c1 = c10 + fy * (c11 - c10)
                total += c0 + fz * (c1 - c0)
            image[b, v, u] = total * real(dt) * scale
    return image


@numba.njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def march_hits(flat, scale, shape, occupancy, source, ray_matrix, height, width, dt):
    """`(B, H, W)` booleans: true if the nearest voxel of any sample is not zero; arguments as `march_with_moments`."""
    nz, ny, nx = shape
    n_poses = source.shape[0]
    row, plane = nx, nx * ny
    hits = np.zeros((n_poses, height, width), np.bool_)
    n_lines = n_poses * height
    for task in numba.prange(n_lines):
        line = _interleaved(task, n_lines)
        b, v = line // height, line % height
        sx, sy, sz = source[b, 0], source[b, 1], source[b, 2]
        m = ray_matrix[b]
        for u in range(width):
            ex = m[0, 0] * u + m[0, 1] * v + m[0, 2]
            ey = m[1, 0] * u + m[1, 1] * v + m[1, 2]
            ez = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            first, last = _ray_span(sx, sy, sz, ex, ey, ez, nx, ny, nz, dt, occupancy)
            for k in range(first, last):
                t = (k + 0.5) * dt
                i = int(sz + t * ez + 0.5) * plane + int(sy + t * ey + 0.5) * row + int(sx + t * ex + 0.5)
                if _fetch(flat, i)[0] != 0:
                    hits[b, v, u] = True
                    break
    return hits
