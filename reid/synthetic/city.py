"""Cities and their cameras: the style of a domain, and the pictures taken in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .backdrop import draw_obstacle, draw_scene
from .palette import Array, Colour, generator, pick
from .pedestrian import Appearance, Easel, Light, Pose, draw_person

SUPERSAMPLE = 2  # pictures are drawn this much larger, then reduced: smooth edges


@dataclass(frozen=True, slots=True)
class City:
    """The style of a city. Pairs are (low, high); each camera draws its own value in between."""

    scenes: tuple[str, ...]  # names of `backdrop.SCENES`; camera k looks at scene k, cyclically
    gains: Colour  # colour cast: factors of R, G, B
    gain_spread: float  # log-normal spread of the gains between cameras
    exposure: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    haze: float  # black level, 0..1
    blur: tuple[float, float]  # Gaussian sigma, in pixels of a picture 128 high
    noise: tuple[float, float]  # sensor noise, standard deviation on 0..1
    quality: tuple[int, int]  # JPEG quality
    ambient: float  # light from everywhere
    sun: float  # light from one direction
    shadow: float  # depth of the shadow on the ground, 0..1
    lit_windows: float  # fraction of windows with a lamp on
    warm_clothing: float  # probability of jackets, coats, long sleeves and trousers
    occlusion: float  # probability that something hides a part of the person


CITIES: dict[str, City] = {
    "noon": City(
        scenes=("plaza", "park", "shop", "street", "wall"),
        gains=(1.08, 1.0, 0.86),
        gain_spread=0.07,
        exposure=(0.95, 1.2),
        contrast=(1.1, 1.35),
        saturation=(0.95, 1.2),
        haze=0.0,
        blur=(0.0, 0.35),
        noise=(0.004, 0.014),
        quality=(84, 95),
        ambient=0.58,
        sun=0.55,
        shadow=0.5,
        lit_windows=0.0,
        warm_clothing=0.25,
        occlusion=0.15,
    ),
    "dusk": City(
        scenes=("station", "street", "wall", "shop", "park"),
        gains=(0.90, 0.97, 1.13),
        gain_spread=0.08,
        exposure=(0.68, 0.90),
        contrast=(0.78, 0.94),
        saturation=(0.6, 0.88),
        haze=0.045,
        blur=(0.45, 0.75),
        noise=(0.01, 0.02),
        quality=(45, 70),
        ambient=0.72,
        sun=0.30,
        shadow=0.25,
        lit_windows=0.55,
        warm_clothing=0.7,
        occlusion=0.2,
    ),
}


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of a city: what it looks at and what it does to colours."""

    scene: str
    heading: float  # radians; where people here mostly walk, 0 = towards the camera
    elevation: float  # radians above the horizontal
    light: Light
    gains: Colour
    exposure: float
    contrast: float
    saturation: float
    haze: float
    blur: float
    noise: float
    quality: int

    @classmethod
    def sample(cls, rng: np.random.Generator, city: City, index: int) -> Camera:
        """Camera number `index` (from 0) of a city."""
        light = np.array([rng.choice([-1, 1]) * rng.uniform(0.35, 0.8), 0.5, rng.uniform(0.3, 0.8)])
        x, y, z = (light / np.linalg.norm(light)).tolist()
        r, g, b = np.multiply(city.gains, np.exp(rng.normal(0, city.gain_spread, 3))).tolist()
        return cls(
            scene=city.scenes[index % len(city.scenes)],
            heading=float(rng.uniform(-np.pi, np.pi)),
            elevation=float(rng.uniform(0.05, 0.25)),
            light=Light((x, y, z), city.ambient, city.sun, city.shadow),
            gains=(r, g, b),
            exposure=float(rng.uniform(*city.exposure)),
            contrast=float(rng.uniform(*city.contrast)),
            saturation=float(rng.uniform(*city.saturation)),
            haze=city.haze,
            blur=float(rng.uniform(*city.blur)),
            noise=float(rng.uniform(*city.noise)),
            quality=int(rng.integers(*city.quality, endpoint=True)),
        )

    def develop(
        self, canvas: Array, size: tuple[int, int], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Painted canvas -> (height, width, 3) RGB uint8: reduction, colour, blur, sensor noise."""
        picture = cv2.resize(canvas, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        grey = (picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        picture = grey + (picture - grey) * np.float32(self.saturation)
        exposure = self.exposure * float(np.exp(rng.normal(0, 0.07)))
        gains = np.multiply(self.gains, np.exp(rng.normal(0, 0.02, 3))) * exposure
        pivot = 0.42 * exposure  # contrast leaves the mean brightness alone
        picture = (picture * gains.astype(np.float32) - pivot) * self.contrast + pivot + self.haze
        sigma = self.blur * float(rng.uniform(0.8, 1.3)) * size[0] / 128
        if sigma > 0.15:  # below that the kernel is a single pixel
            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        picture = picture + self.noise * rng.standard_normal(picture.shape, dtype=np.float32)
        return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5, np.uint8)

    def encode(self, picture: NDArray[np.uint8]) -> bytes:
        """The picture as the JPEG file that this camera writes."""
        done, data = cv2.imencode(
            ".jpg",
            np.ascontiguousarray(picture[..., ::-1]),
            [cv2.IMWRITE_JPEG_QUALITY, self.quality],
        )
        assert done  # a uint8 picture always encodes
        return bytes(data)


@dataclass(frozen=True, slots=True)
class Studio:
    """All that the pictures of one city share; takes any one of them without the others."""

    city: str
    seed: int
    size: tuple[int, int]
    cameras: tuple[Camera, ...]
    scenes: tuple[Array, ...]

    @classmethod
    def open(cls, city: str, seed: int, size: tuple[int, int], cameras: int) -> Studio:
        style, canvas = CITIES[city], (size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE)
        eyes, scenes = [], []
        for c in range(cameras):
            eye = Camera.sample(generator(seed, city, "camera", c), style, c)
            rng = generator(seed, city, "scene", c)
            eyes.append(eye)
            scenes.append(draw_scene(eye.scene, canvas, eye.elevation, style.lit_windows, rng))
        return cls(city, seed, size, tuple(eyes), tuple(scenes))

    def person(self, *key: object) -> Appearance:
        """The inhabitant with this key: always the same one."""
        rng = generator(self.seed, self.city, "person", *key)
        return Appearance.sample(rng, CITIES[self.city].warm_clothing)

    def shoot(
        self, who: Appearance | None, camera: int, *key: object, misaligned: bool = False
    ) -> NDArray[np.uint8]:
        """The picture with this key by camera number `camera` (from 0): (H, W, 3) RGB uint8.

        Without `who` it shows the bare scene; `misaligned` is a detector's miss, a piece of a body.
        """
        rng = generator(self.seed, self.city, "picture", camera, *key)
        eye = self.cameras[camera]
        canvas = _window_into(self.scenes[camera], self.size, rng)
        if who is not None:
            pose = Pose.sample(rng, eye.heading)
            if misaligned:
                shift = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.2, 0.8)))
                pose = replace(pose, scale=float(rng.uniform(1.5, 2.1)), shift=shift)
            self._stage(canvas, eye, who, pose, rng, ("passer-by", camera, *key))
        return eye.develop(canvas, self.size, rng)

    def _stage(
        self,
        canvas: Array,
        eye: Camera,
        who: Appearance,
        pose: Pose,
        rng: np.random.Generator,
        key: tuple[object, ...],
    ) -> None:
        """Paint the person, sometimes with somebody behind or something in front."""
        hidden = rng.random() < CITIES[self.city].occlusion
        aside = float(rng.choice([-1, 1]) * rng.uniform(0.32, 0.55))
        if rng.random() < 0.15:  # further away, hence smaller and higher up
            far = Pose.sample(rng, eye.heading)
            far = replace(far, scale=far.scale * 0.8, shift=(aside, -0.09))
            _place(canvas, eye, self.person(*key, "behind"), far)
        _place(canvas, eye, who, pose)
        if hidden:
            kind = pick(rng, ("pole", "car", "plants", "person"))
            if kind == "person":
                close = replace(Pose.sample(rng, eye.heading), shift=(-1.2 * aside, 0.02))
                _place(canvas, eye, self.person(*key, "in front"), close)
            else:
                draw_obstacle(canvas, kind, rng)


def _window_into(scene: Array, size: tuple[int, int], rng: np.random.Generator) -> Array:
    height, width = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
    top = int(rng.integers(scene.shape[0] - height + 1))
    left = int(rng.integers(scene.shape[1] - width + 1))
    return np.array(scene[top : top + height, left : left + width])


def _place(canvas: Array, eye: Camera, who: Appearance, pose: Pose) -> None:
    """A person in the frame."""
    height, width = canvas.shape[:2]
    unit = 0.89 * min(height, 2 * width) * pose.scale * who.height
    feet = (width * (0.5 + pose.shift[0]), height * (0.955 + pose.shift[1]))
    easel = Easel(canvas, eye.light, eye.elevation, pose.yaw, feet, unit)
    draw_person(easel, who, pose)
