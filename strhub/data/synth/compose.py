"""Paints one plan with OpenCV. Pictures are float (h, w, 3) from 0 to 255 until they are done."""

from __future__ import annotations

import cv2
import numpy as np

from strhub.data.synth.camera import LARGEST_CUT, Lens, Sensor, View, noise_sheet
from strhub.data.synth.paint import Colour, Field, Light, Ramp, Shape, Size
from strhub.data.synth.plan import Layer, Plan

cv2.setNumThreads(0)  # the pictures are small and the workers are the parallelism

SHARES = (np.arange(256) / 255).astype(np.float32)  # uint8 coverage as a share


def compose(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """The picture, uint8 RGB (h, w, 3), and where the letters are in it, uint8 (h, w)."""
    size = plan.view.size
    picture = _full(plan.ground.colour, size)
    for field, colour in plan.ground.textures:
        picture += _wide(spread(field, size)) * _full(colour, size)
    for shape in plan.ground.shapes:
        _lay(picture, draw(shape, size), shape.colour)
    for layer in plan.layers[:-1]:
        _lay(picture, project(layer, plan.view), layer.colour, layer.opacity)
    letters = plan.layers[-1]
    coverage = project(letters, plan.view)
    if plan.wear is None:
        _lay(picture, coverage, letters.colour)
    else:
        field, strength = plan.wear
        faded = _wide(spread(field, size) * np.float32(strength))
        faded += _full(letters.colour, size)
        _lay(picture, coverage, faded)
    _light(picture, plan.light)
    return _sense(_blur(picture, plan.lens), plan.sensor), coverage


def project(layer: Layer, view: View) -> np.ndarray:
    """A mask as seen, uint8 (h, w)."""
    mask, matrix = shrunk(layer, view)
    return cv2.warpPerspective(mask, matrix, view.size, flags=cv2.INTER_LINEAR)


def shrunk(layer: Layer, view: View) -> tuple[np.ndarray, np.ndarray]:
    """The mask in the detail that can be seen, and the matrix (3, 3) from it to the picture."""
    mask = layer.mask
    if view.shrink < 1:
        mask = cv2.resize(mask, None, fx=view.shrink, fy=view.shrink, interpolation=cv2.INTER_AREA)
    return mask, view.of(layer.mask.shape, layer.origin, mask.shape)


def draw(shape: Shape, size: Size) -> np.ndarray:
    """Coverage of a shape, uint8 (h, w)."""
    mask = np.zeros(size[::-1], np.uint8)
    if shape.width:
        return cv2.line(mask, shape.start, shape.end, 255, shape.width, cv2.LINE_AA)
    return cv2.rectangle(mask, shape.start, shape.end, 255, -1)


def spread(field: Field, size: Size) -> np.ndarray:
    """A field over the whole picture, (h, w)."""
    if isinstance(field, Ramp):
        return _steps(size[1], field.y)[:, None] + _steps(size[0], field.x)
    return cv2.resize(field.grid, size, interpolation=cv2.INTER_LINEAR)


def _steps(count: int, end: float) -> np.ndarray:
    return np.arange(count, dtype=np.float32) * np.float32(2 * end / count) - np.float32(end)


def _wide(plane: np.ndarray) -> np.ndarray:
    """(h, w) -> (h, w, 3): arithmetic on equal shapes is several times as fast as broadcasting to three channels."""
    return cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB)


def _full(colour: Colour, size: Size) -> np.ndarray:
    """A colour all over a picture (h, w, 3)."""
    picture = np.empty((size[1], size[0], 3), np.float32)
    picture[0] = colour
    picture[1:] = picture[0]
    return picture


def _lay(picture: np.ndarray, coverage: np.ndarray, ink: np.ndarray | Colour, opacity: float = 1.0) -> None:
    """Puts ink, a colour or a picture that may be spoilt, on the picture where there is coverage, uint8 (h, w)."""
    change = ink if isinstance(ink, np.ndarray) else _full(ink, (picture.shape[1], picture.shape[0]))
    change -= picture
    change *= _wide(cv2.LUT(coverage, SHARES if opacity == 1 else SHARES * np.float32(opacity)))
    picture += change


def _light(picture: np.ndarray, light: Light) -> None:
    size = picture.shape[1], picture.shape[0]
    for field, strength in light.fields:
        plane = spread(field, size)
        plane *= np.float32(strength)
        plane += 1
        picture *= _wide(plane)
    if light.glare:
        field, threshold, strength = light.glare
        picture += _wide(np.maximum(spread(field, size) - threshold, 0) * np.float32(strength))
    if not light.is_neutral:
        picture *= _full(light.gain, size)
        picture += np.float32(light.offset)


def _blur(picture: np.ndarray, lens: Lens) -> np.ndarray:
    if lens.sigma:
        return cv2.GaussianBlur(picture, (0, 0), lens.sigma)
    return picture if lens.kernel is None else cv2.filter2D(picture, -1, lens.kernel)


def _sense(picture: np.ndarray, sensor: Sensor) -> np.ndarray:
    if sensor.noise:
        picture += _noise((picture.shape[1], picture.shape[0]), sensor)
    if sensor.sharpening:
        soft, share = cv2.GaussianBlur(picture, (5, 5), 1.2), sensor.sharpening
        picture = cv2.addWeighted(picture, 1 + share, soft, -share, 0)
    pixels = cv2.addWeighted(picture, 1, picture, 0, 0, dtype=cv2.CV_8U)  # which rounds, and keeps to 0 and 255
    return _jpeg(pixels, sensor.quality) if sensor.quality else pixels


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return pixels if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _noise(size: Size, sensor: Sensor) -> np.ndarray:
    width, height = min(size[0], LARGEST_CUT[0]), min(size[1], LARGEST_CUT[1])
    planes = []
    for x, y in sensor.cuts:
        plane = noise_sheet()[y : y + height, x : x + width]
        if (width, height) != size:
            plane = cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)
        if sensor.is_coarse:
            plane = cv2.blur(plane, (3, 3))
        planes.append(plane * np.float32(sensor.noise))
    return cv2.merge(planes) if len(planes) > 1 else _wide(planes[0])
