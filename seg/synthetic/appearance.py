"""How a painted street looks: in a game, or through the camera of a car.

Nothing here moves an edge. A style gives every part a colour and a texture, sets the light, the
air and the camera; two styles of one street share their label map.

All operations on pixels are sums, products, comparisons and look-ups, which every machine rounds
alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .camera import Array
from .canvas import Canvas, Parts
from .chance import between, chance, generator, pick
from .labels import GROUND, PARKING, RAIL_TRACK, ROAD, SIDEWALK, TERRAIN
from .textures import NAMES, TILE, tiles

STYLES = ("game", "real")
_GROUND = (ROAD, SIDEWALK, PARKING, RAIL_TRACK, GROUND, TERRAIN)  # labels that shadows fall on


@dataclass(frozen=True, slots=True)
class Material:
    texture: str
    metres: float  # along a side of the texture's tile
    strength: tuple[float, float]  # of the texture, in the game and in reality
    colours: tuple[Array, Array]  # palettes (k, 3) in 0..1
    glow: float = 0.0  # shines by itself


# name | texture, metres | strength in game, reality | colours in the game | in reality | glow;
# indented lines go on with the one above
_MATERIALS = """
sky | plain 1 | 0 0 | 000000 | 000000
asphalt | grain 3 | .16 .2 | 8f8a86 7f7b7a 9a948c 868086 | 5c6062 6a6c6c 54585c 747674 646462
marking | grain 3 | .06 .35 | fbf8ee f4efe0 | b8bab4 a4a8a4 c4c4bc
paving | slabs 3 | .3 .3 | c9b9a2 b9aea4 d4c6b0 bfa79a | 84847e 7a7c7a 8e8a82 6e7274
paving_small | bricks 2.2 | .35 .4 | b7a08c a8948a | 74706a 80807a
kerb | plain 2 | .1 .3 | d8d2c6 cac2b4 | 92928c 86888a
grass | grass 3.5 | .38 .6 | 6fa62e 86b23a 5d9a2c a3ad44 | 5c6a44 6a7048 7a7450 4e6040 847a58
ballast | grain 1 | .5 .9 | 9a8672 8d7d70 | 625c56 6e6a64
plaster | plaster 7 | .12 .3 | f0dcb4 e8c39a f2ead8 d9a684 c8d6de e6b4a0 f4d07e d4c8e0 c25c44
    5c86b4 | b0a894 9c9484 c0bcae a08c7c 8e9898 a89084 b8a888 8c8478 84604e 6a7680
brick | bricks 2.2 | .32 .4 | b8573a a24a34 c97b50 8e4632 d09a6a | 76554a 6c5048 86665a 5e4c46
    8a7664
stone | slabs 3.2 | .28 .3 | d8cbb0 c4b8a6 e2d4b4 b0a8a4 | 98948a 868680 a29c8e 74767a
concrete | panels 7 | .28 .3 | c2bcb4 aeb0b2 d2ccc0 9fa6ac | 868a8a 767a7c 92928e 666c70
ledge | plain 3 | .08 .3 | f4ecdc e2d6c4 c8bca8 8c7c6c | a4a298 92928a 7c7c78 5e5e5c
frame | plain 3 | .05 .2 | fbf7ee efe6d6 7a4a2c 4a4640 | b2b2aa a4a6a2 605650 4c4c4c
glass | plain 4 | .1 .3 | 2c4a68 38587a 24384e 4a6c88 | 30383c 3c4446 4a5456 262c30
glass_lit | plain 4 | .1 .3 | 35587c 40688c 2c4660 | 343c40 485052 585e5c
shop_glass | plain 3 | .15 .4 | 3c5468 4c6474 2e3e4c | 343a3c 40464a 4c4c48
bus_glass | plain 4 | .1 .25 | 22384e 2e4660 | 242a2e 32383c
shop_sign | plain 3 | .05 .2 | e23c2c 2466c8 f2b61e 18985a f4f0e6 3a2c6c | 84443c 3e5274 98884c
    42665a a6a69e 44404c
awning | planks 1.6 | .25 .3 | d23a2c 2c8a5c e8a832 2f5fb4 f0e6d2 | 7c4640 4a6a5a 948258 465878
    9c988c
door | planks 1.2 | .2 .3 | 7a3c22 2c5a44 28466e a8742e | 54443c 3c4a44 3a424c 665a48
roof | bricks 2.6 | .3 .45 | b4502e 9c4630 6c5248 5a6068 c8743e | 70504a 62504a 545250 4a4e52
    7a6458
leaf_dark | leaves 1.7 | .45 .7 | 2e6a20 3c7420 28602c 56701c | 343e2a 3c4430 2e3a2c 444630
leaf | leaves 1.7 | .4 .65 | 4c962a 64a02c 3e8a34 86942a | 4a583a 566042 425240 646446
leaf_light | leaves 1.7 | .35 .6 | 78be3a 90c440 62b044 b4b43c | 64724e 727a56 5a6c54 82805c
bark | planks .8 | .3 .6 | 7a5636 6a4c38 | 4a443c 544e46
metal | plain 2 | .1 .3 | a8a8a4 6c7074 38443c 8c8478 2c3034 | 747876 5a5e60 464c4a 666462 3a3e40
lamp | plain 2 | .05 .2 | e8e4d4 b4b4b0 | 92948e 80827e
lamp_box | plain 1 | .1 .2 | 26241e 34302a c8a22a | 2a2c2a 343634 5e5a40
lamp_red | plain 1 | 0 0 | ff2a1a | d4382c | 1
lamp_amber | plain 1 | 0 0 | ffb41e | d89a34 | 1
lamp_green | plain 1 | 0 0 | 2cff7a | 52c89c | 1
lamp_off | plain 1 | 0 0 | 4a3024 4a4424 244a34 | 2e2a28 302e28 282e2c
sign_red | plain 1 | .05 .2 | e4241c | a43a36 8c3a38
sign_blue | plain 1 | .05 .2 | 1c56d4 | 34548c 3c5a80
sign_green | plain 1 | .05 .2 | 128a4c | 2e6450 3c6a58
sign_yellow | plain 1 | .05 .2 | fcc81c | c0a040 b49a4c
sign_white | plain 1 | .05 .2 | fcfcf6 | b8bab4 a8aca8
sign_black | plain 1 | .05 .2 | 1c1c1c | 303232
paint | plain 3 | .06 .18 | f4f4f2 18181c c4c8cc d4201c 1c50b4 e8b414 2c7a48 7c1c24 e07a1c 8c9298
    3cb4d0 | b4b6b2 2a2c2e 8c9090 6a7072 3e464c 743a38 3c4c66 4a4e4c 545a58 9a9a92 826c4a
bus_paint | plain 4 | .05 .2 | e83c28 f6bc1c 2478d0 f4f2ea 2c9c5c e87c24 | 8c4a42 a48c4c 4e6482
    a6a8a2 54705e 7c766c
train_paint | plain 5 | .05 .2 | d42a24 f4d42c f6f4ee 2c64b4 4cac4c | 84443e a49a58 a4a6a2 4c607c
    5e7460
train_trim | plain 5 | .05 .2 | fcfaf0 2c3c54 e8342a 3c8c5c | 9c9e9a 3a444c 7c4842 4e685a
panel | plain 5 | .08 .3 | f4f2ec d8dce0 e8b42c 2c68b8 c83c2c 8cb4d4 6c7a3c | a2a4a0 8e9292 8c8058
    566880 7c504a 6e7c84 5e6450
trim | plain 2 | .1 .25 | 1e1c1c 2a2828 34322e | 242626 2e3030 363838
tyre | plain 1 | .1 .25 | 181616 242222 | 1e2020 2a2c2c
rim | plain 1 | .1 .3 | d4d6d8 a4a8ac 5c6064 | 8a8e8e 6e7272 4c5050
plate | plain 1 | 0 .1 | f8f4dc | a8aaa2
head_lamp | plain 1 | 0 .1 | f8fcff e4ecf4 | b4b8b8 a4a8a8 | .25
tail_lamp | plain 1 | 0 .1 | e8141c c41018 | 8c2c2c 742a2a | .25
display | plain 1 | 0 .1 | 2c2416 e88c1c | 2a2a26 967444 | .2
cloth | plain .9 | .1 .35 | e8342c 2c5cd0 f4c42c f4f4f0 1e2026 2ca05c e06ca8 8c4cc0 f08c2c 6cb4e0
    9c6c44 | 6e4644 3e4a62 8a8058 9c9e9a 2c2e32 46584c 7c6270 54506a 7a6450 62727c 5e5448
trousers | plain .9 | .1 .3 | 2c447c 1e2028 4a6cac b49a6c 5c5c60 6c3c2c e8e0d0 | 3a4450 2a2c30
    505a68 746c5c 4a4c4e 4c443e 8a887e
skin | plain .9 | .05 .15 | f4c49a e0a478 b47448 8c5430 f8d4b4 | a48a78 94786a 6c564a 4e423c
    b09c8c
hair | plain .5 | .15 .3 | 241812 4c2c14 8c5a24 d4a850 141416 a8a4a0 | 2a2624 3a322c 544840 7a7060
    202224 828482
helmet | plain .5 | .05 .2 | f4f4f0 d4241c 1c1c20 f4c41c 2c68d0 | a0a29e 744440 2a2c2e 8c8050
    465a76
bike_frame | plain .9 | .05 .2 | e42c24 2468d8 f4f4f0 1c1c20 34b464 f4a81c | 744640 46587c 9a9c98
    2a2c2e 4e6a58 86744c
wood | planks 1.3 | .3 .45 | b47c44 9c6a3c d09c5c 6c8c4c f0e8d8 | 6e6050 625850 7c7060 5c6454
    9c988c
plastic | plain 1 | .08 .25 | 2c7c4c 4c5054 d4a42c 2c58a4 8c3c2c 9c9c98 | 465a4c 505454 8a7c50
    46566c 644844 76787a
hood | plain 2 | .03 .12 | 1c2c4c 2c2c30 8c1c1c c4c8cc 1c4434 | 24282c 34383a 4a4e50 5e6464 2a3236
"""


def _colours(codes: str) -> Array:
    return np.array([[int(c[k : k + 2], 16) / 255 for k in (0, 2, 4)] for c in codes.split()])


def _read(line: str) -> tuple[str, Material]:
    name, texture, strength, game, real, *glow = (cell.strip() for cell in line.split("|"))
    kind, metres = texture.split()
    clean, worn = strength.split()
    return name, Material(
        kind,
        float(metres),
        (float(clean), float(worn)),
        (_colours(game), _colours(real)),
        float(glow[0]) if glow else 0.0,
    )


MATERIALS: dict[str, Material] = dict(
    _read(line) for line in _MATERIALS.replace("\n    ", " ").strip().splitlines()
)


@dataclass(frozen=True, slots=True)
class Look:
    """The light, the air and the camera of one picture. Colours are RGB factors or 0..1."""

    ambient: tuple[float, float, float]
    sunlight: tuple[float, float, float]
    shadow: float  # how dark the sun's shadows are, 0..1
    contact: float  # how dark it is below vehicles, 0..1
    zenith: tuple[float, float, float]
    skyline: tuple[float, float, float]  # sky at the horizon
    clouds: float  # share of white
    cloud_colour: tuple[float, float, float]
    haze: float  # per metre
    haze_colour: tuple[float, float, float]
    lamps: float  # windows and lamps that shine, 0..1
    wet: float  # reflections on the road, 0..1
    saturation: float
    contrast: float  # 1 leaves it
    gamma: float
    cast: tuple[float, float, float]
    lift: float  # black is this bright, 0..1
    bloom: float
    vignette: float
    sharpen: float
    blur: float  # of the lens, in pixels of the image
    noise: float  # of the sensor, in grey levels
    jpeg: int  # quality, 0 for none
    streaks: int  # of rain


def game_look(rng: np.random.Generator) -> Look:
    """A sunny day in a game: warm, saturated, hard shadows, bloom and a vignette."""
    evening = chance(rng, 0.25)
    warm = between(rng, 0.02, 0.07) + (0.08 if evening else 0.0)
    sun = between(rng, 0.62, 0.85)
    return Look(
        ambient=(0.56, 0.56, 0.61),
        sunlight=(sun * (1 + warm), sun, sun * (0.86 - warm)),
        shadow=between(rng, 0.85, 1.0),
        contact=0.65,
        zenith=(0.16, 0.38, 0.82) if not evening else (0.32, 0.36, 0.66),
        skyline=(0.66, 0.80, 0.95) if not evening else (0.98, 0.74, 0.50),
        clouds=between(rng, 0.0, 0.75),
        cloud_colour=(1.0, 0.98, 0.94) if not evening else (1.0, 0.86, 0.74),
        haze=between(rng, 0.0004, 0.0016),
        haze_colour=(0.72, 0.82, 0.93) if not evening else (0.95, 0.76, 0.58),
        lamps=0.0,
        wet=0.0,
        saturation=between(rng, 1.12, 1.35),
        contrast=between(rng, 1.12, 1.3),
        gamma=1.0,
        cast=(1.05 + warm * 0.6, 1.0, 0.93 - warm * 0.6),
        lift=0.0,
        bloom=between(rng, 0.15, 0.35),
        vignette=between(rng, 0.25, 0.5),
        sharpen=between(rng, 0.3, 0.6),
        blur=0.0,
        noise=0.0,
        jpeg=0,
        streaks=0,
    )


WEATHER = {"overcast": 0.42, "hazy": 0.2, "fog": 0.12, "rain": 0.14, "dusk": 0.12}


def real_look(rng: np.random.Generator) -> Look:
    """A car's camera under a Central European sky: grey-green, flat, soft and noisy."""
    weather = pick(rng, tuple(WEATHER), tuple(WEATHER.values()))
    light = between(rng, 0.72, 1.0)
    green = between(rng, 0.0, 0.06)
    sun, shadow, grey = 0.08, 0.0, between(rng, 0.7, 0.96)
    haze, wet, lamps, streaks = between(rng, 0.002, 0.005), 0.0, 0.0, 0
    noise, blur = between(rng, 1.2, 3.4), between(rng, 0.45, 0.8)
    tint = (0.97, 1.0, 0.99)
    if weather == "hazy":
        sun, shadow = between(rng, 0.2, 0.38), between(rng, 0.35, 0.7)
        tint = (1.0, 1.0, 0.96)
    elif weather == "fog":
        haze, blur = between(rng, 0.012, 0.026), blur + 0.15
        grey = between(rng, 0.62, 0.75)
    elif weather == "rain":
        wet, streaks = between(rng, 0.35, 0.65), int(rng.integers(40, 160))
        grey, light, haze = grey * 0.85, light * 0.88, between(rng, 0.005, 0.01)
    elif weather == "dusk":
        light, grey = between(rng, 0.52, 0.68), between(rng, 0.4, 0.54)
        lamps, noise, tint = 1.0, noise + 1.5, (0.92, 0.97, 1.1)
        haze = between(rng, 0.003, 0.006)
    sky = tuple(min(grey * t, 1.0) for t in tint)
    zenith = tuple(v * between(rng, 0.82, 0.98) for v in sky)
    return Look(
        ambient=tuple(light * t for t in tint),  # type: ignore[arg-type]
        sunlight=(sun * 1.05, sun, sun * 0.9),
        shadow=shadow,
        contact=0.5,
        zenith=zenith,  # type: ignore[arg-type]
        skyline=sky,  # type: ignore[arg-type]
        clouds=between(rng, 0.3, 1.0),
        cloud_colour=tuple(min(v * 1.08, 1.0) for v in sky),  # type: ignore[arg-type]
        haze=haze,
        haze_colour=sky,  # type: ignore[arg-type]
        lamps=lamps,
        wet=wet,
        saturation=between(rng, 0.45, 0.8),
        contrast=between(rng, 0.78, 1.0),
        gamma=between(rng, 0.85, 1.12),
        cast=(0.97 - green * 0.5, 1.0 + green, 0.97 - green * 0.3),
        lift=between(rng, 0.02, 0.09),
        bloom=0.12 if lamps else 0.04,
        vignette=between(rng, 0.0, 0.15),
        sharpen=0.0,
        blur=blur,
        noise=noise,
        jpeg=int(rng.integers(55, 88)),
        streaks=streaks,
    )


LOOKS = {"game": game_look, "real": real_look}


def develop(canvas: Canvas, style: str, seed: int, number: int) -> Array:
    """The picture of a painted street: (height, width, 3) uint8 RGB."""
    rng = generator("appearance", style, seed, number)
    look = LOOKS[style](rng)
    parts = canvas.parts()
    image = _light(canvas, parts, look, style, rng)
    return _photograph(image, look, rng)


def _light(canvas: Canvas, parts: Parts, look: Look, style: str, rng: np.random.Generator) -> Array:
    """Colours, textures, light, shadows and air: (height, width, 3) float32, white is 1."""
    camera = canvas.camera
    height, width = camera.height, camera.width
    worn = STYLES.index(style)
    names, index = np.unique(parts.material, return_inverse=True)
    materials = [MATERIALS[str(name)] for name in names]
    colour = _part_colours(parts, index, materials, look, canvas.sun, worn)
    flat = cv2.resize(
        np.take(np.rint(colour * 255 / 1.6).clip(0, 255).astype(np.uint8), canvas.ids, axis=0),
        (width, height),
        interpolation=cv2.INTER_AREA,
    ).astype(np.float32) * np.float32(1.6 / 255)

    ids = canvas.centre_ids()
    right = ((np.arange(width, dtype=np.float32) + 0.5) - camera.centre) / camera.focal
    up = (camera.horizon - (np.arange(height, dtype=np.float32) + 0.5)) / camera.focal
    right, up = np.meshgrid(right.astype(np.float32), up.astype(np.float32))
    depth_of = parts.depth[ids]
    inverse = depth_of[..., 0] * right + depth_of[..., 1] * up + depth_of[..., 2]
    depth = 1 / np.clip(inverse, 1 / 600, 2.0)

    flat *= _texture(canvas, parts, index, materials, ids, depth, right, up, style, rng)[..., None]
    on_ground = np.isin(parts.label, _GROUND)[ids]
    flat *= _shade(canvas, look, on_ground)
    sky = cv2.resize(
        np.where(canvas.ids == 0, np.uint8(255), np.uint8(0)),
        (width, height),
        interpolation=cv2.INTER_AREA,
    )
    share = (sky.astype(np.float32) / 255)[..., None]
    optical = depth * look.haze
    clear = 1 / (1 + optical + optical * optical / 2)  # nearly exp(-optical)
    clear = np.where(ids == 0, 1, clear)[..., None].astype(np.float32)
    air = np.array(look.haze_colour, np.float32)
    picture = flat * clear + air * ((1 - clear) * (1 - share))
    if look.wet:
        picture = _reflect(picture, parts, ids, look, camera.horizon)
    rows = int(np.flatnonzero(sky.any(axis=1)).max(initial=-1)) + 1  # all of the sky is above
    if rows:
        picture[:rows] += _sky(look, right[:rows], up[:rows], style, rng) * share[:rows]
    return np.asarray(picture)


def _part_colours(
    parts: Parts,
    index: Array,
    materials: list[Material],
    look: Look,
    sun: tuple[float, float, float],
    worn: int,
) -> Array:
    """(parts, 3): each part's own colour under the light that falls on its plane."""
    colour: Array = np.zeros((len(index), 3))
    first, second = parts.tone.T
    for k, material in enumerate(materials):
        rows = np.flatnonzero(index == k)
        palette = material.colours[worn]
        place = first[rows] * len(palette)
        chosen = palette[np.minimum(place.astype(int), len(palette) - 1)]
        # the tone's remainder turns the hue a little, its second number sets the brightness
        turn = (place % 1 - 0.5)[:, None] * np.array([0.08, 0.0, -0.08])
        own = chosen * (0.84 + 0.32 * second[rows, None]) * (1 + turn)
        toward = np.maximum(parts.normal[rows].astype(float) @ np.array(sun), 0)[:, None]
        light = np.array(look.ambient) + np.array(look.sunlight) * toward
        # the undersides and the sides that look down the street get less of the sky
        light = light * (0.86 + 0.14 * np.maximum(parts.normal[rows, 1:2], 0))
        glow = material.glow
        if look.lamps:
            if _lit_at_dusk(material):
                lit = (second[rows] > 0.35)[:, None] * look.lamps
                own = own * (1 - lit) + np.array([1.0, 0.8, 0.5]) * lit
                light = light * (1 - lit) + (0.75 + 0.5 * first[rows, None]) * lit
            glow = max(glow, look.lamps) if glow else 0.0
        colour[rows] = own * (light * (1 - glow) + 1.25 * glow)
    return colour


def _lit_at_dusk(material: Material) -> bool:
    """Whether lamps are behind it at dusk."""
    return material is MATERIALS["glass_lit"] or material is MATERIALS["shop_glass"]


def _texture(
    canvas: Canvas,
    parts: Parts,
    index: Array,
    materials: list[Material],
    ids: Array,
    depth: Array,
    right: Array,
    up: Array,
    style: str,
    rng: np.random.Generator,
) -> Array:
    """(height, width) float32 factors around 1, from where each pixel lies on its surface."""
    camera, worn = canvas.camera, STYLES.index(style)
    cos, sin = math.cos(camera.yaw), math.sin(camera.yaw)
    view_x = right * depth
    x = view_x * np.float32(cos) + depth * np.float32(sin)
    z = depth * np.float32(cos) - view_x * np.float32(sin)
    y = up * depth + np.float32(camera.elevation)
    normal = parts.normal
    ground = normal[:, 1] > 0.3
    per_part = np.stack(
        (
            np.where(ground, 1, -normal[:, 2]),  # how u follows x
            np.where(ground, 0, normal[:, 0]),  # how u follows z
            ground,
        ),
        axis=-1,
    ).astype(np.float32)
    scale = np.array([TILE / m.metres for m in materials], np.float32)[index]
    strength = np.array([m.strength[worn] for m in materials], np.float32)[index]
    kind = np.array([NAMES.index(m.texture) for m in materials], np.int32)[index]
    way = per_part[ids]
    u = x * way[..., 0] + z * way[..., 1]
    lying = way[..., 2]
    v = np.where(lying > 0, z, -y)
    size = scale[ids]
    offset_u, offset_v = rng.integers(0, TILE, 2)
    stack = tiles(style)

    def look_up(factor: float, which: Array) -> Array:
        column = np.floor(u * (size * np.float32(factor))).astype(np.int32) + offset_u
        row = np.floor(v * (size * np.float32(factor))).astype(np.int32) + offset_v
        flat = which * (TILE * TILE) + (row & (TILE - 1)) * TILE + (column & (TILE - 1))
        return np.asarray(stack.ravel()[flat].astype(np.float32) / 127)

    # where a pixel covers many texels, the texture fades instead of flickering
    across = depth / np.float32(camera.focal)
    along = np.where(lying > 0, depth * across / np.float32(camera.elevation), across)
    fade = np.minimum(6 / np.maximum(np.sqrt(across * along) * size, 1e-3), 1)
    fine = look_up(1.0, kind[ids]) * fade
    coarse = look_up(0.11, np.full_like(ids, NAMES.index("plaster")))
    weight = np.float32(0.35 if worn else 0.18)
    stains = weight * np.minimum(strength[ids] * 2, 0.6) * coarse
    return np.asarray(1 + strength[ids] * fine + stains)


def _shade(canvas: Canvas, look: Look, on_ground: Array) -> Array:
    """(height, width, 3) factors: the sun's shadows and the dark below vehicles."""
    sun = np.maximum(canvas.sun[1], 0.0)
    full = np.array(look.ambient) + np.array(look.sunlight) * sun
    shaded = (np.array(look.ambient) / full).astype(np.float32)
    spread = max(canvas.camera.width / 300, 1.0)
    contact = cv2.GaussianBlur(canvas.contact, (0, 0), spread)
    dark = (contact.astype(np.float32) / 255) * on_ground * np.float32(look.contact)
    factor = np.repeat((1 - dark)[..., None], 3, axis=2)
    if look.shadow:
        mask = (canvas.shadow.astype(np.float32) / 255) * on_ground * np.float32(look.shadow)
        factor *= 1 + (shaded - 1) * mask[..., None]
    return factor


def _sky(look: Look, right: Array, up: Array, style: str, rng: np.random.Generator) -> Array:
    """(height, width, 3): a gradient with clouds on a flat ceiling."""
    rise = np.clip(up * 2.2, 0, 1)[..., None]
    horizon, zenith = np.array(look.skyline, np.float32), np.array(look.zenith, np.float32)
    sky = horizon + (zenith - horizon) * rise
    ceiling = 1 / np.maximum(up, 0.02)
    shift = rng.integers(0, TILE, 4)
    stack = tiles(style)[NAMES.index("plaster")]
    clouds = np.zeros_like(up)
    for octave, weight in ((9.0, 0.6), (26.0, 0.4)):
        column = np.floor(right * ceiling * octave * 2).astype(np.int32) + shift[0]
        row = np.floor(ceiling * octave * 2).astype(np.int32) + shift[1]
        column, row = column & (TILE - 1), row & (TILE - 1)
        clouds += np.float32(weight) * stack[row, column].astype(np.float32) / 127
    soft = cv2.GaussianBlur(np.rint(clouds * 100 + 128).clip(0, 255).astype(np.uint8), (0, 0), 2.5)
    cover = np.clip((soft.astype(np.float32) - 128) / 30 + look.clouds * 1.6 - 0.9, 0, 1)
    cover = (cover * np.clip(up * 8, 0, 1))[..., None] * np.float32(min(look.clouds + 0.15, 0.9))
    return np.asarray(sky + (np.array(look.cloud_colour, np.float32) - sky) * cover)


def _reflect(picture: Array, parts: Parts, ids: Array, look: Look, horizon: float) -> Array:
    """A wet road mirrors what stands above it, blurred up and down."""
    height = picture.shape[0]
    rows = np.arange(height)
    mirror = np.clip(np.rint(2 * horizon - rows), 0, height - 1).astype(int)
    small = np.rint(np.clip(picture[mirror], 0, 1) * 255).astype(np.uint8)
    blurred = (max(picture.shape[1] // 24, 3), max(height // 9, 3))
    streaked = cv2.blur(small, blurred).astype(np.float32) / 255
    wet = ((parts.material == "asphalt") | (parts.material == "marking"))[ids]
    # the flatter the view, the more it mirrors
    flat = np.clip(1.1 - (rows - horizon) / max(height - horizon, 1.0), 0.3, 1).astype(np.float32)
    share = wet * (flat * np.float32(look.wet * 0.8))[:, None]
    darker = picture * (1 - np.float32(0.25) * wet[..., None])
    return np.asarray(darker + (streaked - darker) * share[..., None])


def _photograph(picture: Array, look: Look, rng: np.random.Generator) -> Array:
    """Lens, sensor and grading: (height, width, 3) float32 -> uint8."""
    height, width = picture.shape[:2]
    image = _to_bytes(picture * np.float32(0.92))
    if look.streaks:
        _rain(image, look, rng)
    if look.blur:
        image = cv2.GaussianBlur(image, (0, 0), look.blur * max(width / 512, 0.5))
    if look.bloom:
        bright = np.where(image > 200, image, np.uint8(0))
        small = cv2.resize(
            bright, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_LINEAR_EXACT
        )
        small = cv2.GaussianBlur(small, (0, 0), max(width / 240, 0.8))
        halo = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        image = cv2.add(image, _scale_bytes(halo, look.bloom))
    if look.sharpen:
        soft = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
        image = _to_bytes((image + (image - soft) * np.float32(look.sharpen)) / 255)
    values = image.astype(np.float32) / 255
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    grey = (red * np.float32(0.3) + green * np.float32(0.59) + blue * np.float32(0.11))[..., None]
    values = grey + (values - grey) * np.float32(look.saturation)
    values *= np.array(look.cast, np.float32)
    if look.vignette:
        x = (np.arange(width, dtype=np.float32) * 2 + 1) / width - 1
        y = (np.arange(height, dtype=np.float32) * 2 + 1) / height - 1
        radius = x[None, :] * x[None, :] + y[:, None] * y[:, None]
        values *= (1 - np.float32(look.vignette) * np.clip(radius - 0.35, 0, 1.65) / 1.65)[
            ..., None
        ]
    image = np.take(_tone_curve(look), _to_bytes(values))
    if look.noise:
        image = _sensor_noise(image, look, rng)
    if look.jpeg:
        quality: Any = [cv2.IMWRITE_JPEG_QUALITY, look.jpeg]
        done, data = cv2.imencode(".jpg", image[..., ::-1], quality)
        assert done
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(image)


def _tone_curve(look: Look) -> Array:
    """(256,) uint8: contrast, gamma and lifted blacks."""
    curve = []
    for level in range(256):
        value = (level / 255) ** look.gamma
        bent = value + (look.contrast - 1) * (value - 0.5) * (1.0 if look.contrast < 1 else
                4 * value * (1 - value) + 0.25)  # fmt: skip
        curve.append(round(min(max(look.lift + bent * (1 - look.lift), 0.0), 1.0) * 255))
    return np.array(curve, np.uint8)


def _sensor_noise(image: Array, look: Look, rng: np.random.Generator) -> Array:
    """Grain in brightness and, coarser, in colour. Sums of bytes stand in for normal draws."""
    height, width = image.shape[:2]

    def grain(rows: int, columns: int, channels: int) -> Array:
        two = rng.integers(0, 256, (2, rows, columns, channels), dtype=np.uint8)
        # uniform bytes deviate by 73.9, the sum of two by 104.5
        return np.asarray((two[0].astype(np.float32) + two[1] - 255) / np.float32(104.5))

    luma = grain(height, width, 1)
    chroma = grain((height + 1) // 2, (width + 1) // 2, 3).repeat(2, axis=0).repeat(2, axis=1)
    noisy = image + (luma + np.float32(0.45) * chroma[:height, :width]) * np.float32(look.noise)
    return np.asarray(np.rint(np.clip(noisy, 0, 255)).astype(np.uint8))


def _rain(image: Array, look: Look, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    slant = between(rng, -0.25, 0.25)
    for x, y, long in rng.random((look.streaks, 3)).tolist():
        start = round(x * width), round(y * height)
        length = (0.03 + 0.06 * long) * height
        end = round(x * width + slant * length), round(y * height + length)
        cv2.line(layer, start, end, 60, 1, cv2.LINE_AA)
    image[...] = cv2.add(image, np.repeat(cv2.GaussianBlur(layer, (0, 0), 0.7)[..., None], 3, 2))


def _to_bytes(values: Array) -> Array:
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def _scale_bytes(values: Array, factor: float) -> Array:
    return np.take(np.rint(np.arange(256) * factor).clip(0, 255).astype(np.uint8), values)
