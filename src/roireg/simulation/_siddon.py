"""Exact line integrals through voxels (Numba): Siddon 1985, in the incremental form of Amanatides and Woo 1987."""

import math

import numba
import numpy as np


@numba.njit(inline="always")
def _span(origin, direction, size, t_in, t_out):
    """The part of `[t_in, t_out]` for which `-0.5 <= origin + t * direction <= size - 0.5`."""
    if abs(direction) < 1e-12:
        return (t_in, t_out) if -0.5 <= origin <= size - 0.5 else (1.0, 0.0)
    a, b = (-0.5 - origin) / direction, (size - 0.5 - origin) / direction
    return max(t_in, min(a, b)), min(t_out, max(a, b))


@numba.njit(inline="always")
def _start(origin, direction, t, size):
    """Along one axis: first voxel, ray parameter at its next wall, increment from wall to wall, sign of the step."""
    cell = min(max(math.floor(origin + t * direction + 0.5), 0), size - 1)
    if direction > 1e-12:
        return cell, (cell + 0.5 - origin) / direction, 1.0 / direction, 1
    if direction < -1e-12:
        return cell, (cell - 0.5 - origin) / direction, -1.0 / direction, -1
    return cell, np.inf, np.inf, 0


@numba.njit(parallel=True, fastmath={"contract", "arcp", "nsz"}, cache=True, nogil=True, error_model="numpy")
def trace(density, source, ray_matrix, height, width):
    """`(H, W, M)` integrals over the ray parameter from 0 to 1; source and rays in voxels `(x, y, z)`."""
    nz, ny, nx, materials = density.shape
    out = np.zeros((height, width, materials), np.float32)
    sx, sy, sz = source
    m = ray_matrix
    for task in numba.prange(height):
        # Even rows first, then odd ones: threads get contiguous tasks, and rows in the middle of an image take longest.
        half = (height + 1) // 2
        v = 2 * task if task < half else 2 * (task - half) + 1
        for u in range(width):
            ex = m[0, 0] * u + m[0, 1] * v + m[0, 2]
            ey = m[1, 0] * u + m[1, 1] * v + m[1, 2]
            ez = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            t, t_out = _span(sx, ex, nx, 0.0, 1.0)
            t, t_out = _span(sy, ey, ny, t, t_out)
            t, t_out = _span(sz, ez, nz, t, t_out)
            if t >= t_out:
                continue
            ix, tx, dx, step_x = _start(sx, ex, t, nx)
            iy, ty, dy, step_y = _start(sy, ey, t, ny)
            iz, tz, dz, step_z = _start(sz, ez, t, nz)
            while t < t_out:
                jx, jy, jz = ix, iy, iz
                if tx < ty and tx < tz:
                    wall, ix, tx = tx, ix + step_x, tx + dx
                elif ty < tz:
                    wall, iy, ty = ty, iy + step_y, ty + dy
                else:
                    wall, iz, tz = tz, iz + step_z, tz + dz
                wall = min(wall, t_out)
                length = np.float32(wall - t)
                t = wall
                for k in range(materials):
                    out[v, u, k] += length * density[jz, jy, jx, k]
                if ix < 0 or iy < 0 or iz < 0 or ix >= nx or iy >= ny or iz >= nz:
                    break
    return out
