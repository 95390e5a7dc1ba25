"""ImageNet's images cut and resized as TensorFlow 1 does it, for Renda et al. 2020's networks.

Their ``vision/tpu-src/models/official/resnet/resnet_preprocessing.py`` calls
``tf.image.sample_distorted_bounding_box`` and ``tf.image.resize_bicubic``. Two habits of these make
other images than Pillow or torchvision: the crop's height, not its area, is drawn uniformly; and
the resizing doesn't blur before it reduces, nor is it centred.
"""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

CROP_PADDING = 32  # pixels; the centre is image_size / (image_size + CROP_PADDING) of a side
AREA = (0.08, 1.0)  # shares of the image's area
COVERED = 0.1  # least share of the image that a crop shows: tighter than the least area
SIDES = (3 / 4, 4 / 3)  # width / height
ATTEMPTS = 10
CUBIC = -0.75  # derivative of the kernel at 1; core/kernels/resize_bicubic_op.cc
STEPS = 1 << 10  # places between two pixels that the kernel is tabulated for; the same file


class Box(NamedTuple):
    top: int
    left: int
    height: int
    width: int


def tensorflow_view(whole: Image.Image, seed: int | None, image_size: int) -> Tensor:
    """(3, image_size, image_size) bfloat16, a little beyond 0..255 at sharp edges.

    With a seed: a random crop, resized, and flipped or not. Without: the centre, resized. TPUs
    got them as bfloat16.
    """
    box = centre(whole.height, whole.width, image_size)
    flip = False
    if seed is not None:
        random = Random(seed)
        box = random_crop(random, whole.height, whole.width) or box
        flip = random.random() < 0.5
    left, top = box.left, box.top
    with whole.crop((left, top, left + box.width, top + box.height)) as cut:
        pixels = torch.frombuffer(bytearray(cut.tobytes()), dtype=torch.uint8)
    image = pixels.view(box.height, box.width, 3).permute(2, 0, 1).float()
    shown = resize_bicubic(image, image_size)
    return (shown.flip(-1) if flip else shown).to(torch.bfloat16).contiguous()


def centre(height: int, width: int, image_size: int) -> Box:
    """The middle square, of image_size / (image_size + 32) of the shorter side."""
    side = max(1, int(image_size / (image_size + CROP_PADDING) * min(height, width)))
    return Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)


def random_crop(random: Random, height: int, width: int) -> Box | None:
    """A crop within the limits above; None after ten attempts, and for one of the whole image.

    ``GenerateRandomCrop`` of core/kernels/sample_distorted_bounding_box_op.cc: the ratio of the
    sides is drawn uniformly, then the height, of those that keep to the area and fit; the place
    never touches the bottom or the right edge, unless the crop is as high or wide as the image.
    """
    for _ in range(ATTEMPTS):
        box = _attempt(random, height, width, random.uniform(*SIDES))
        if box is not None and box.height * box.width >= COVERED * height * width:
            return None if (box.height, box.width) == (height, width) else box
    return None


def _attempt(random: Random, height: int, width: int, ratio: float) -> Box | None:
    """ratio: width / height of the crop. None if it can't keep to the area."""
    least_area, most_area = (share * height * width for share in AREA)
    most = round(math.sqrt(most_area / ratio))
    if round(most * ratio) > width:
        most = int((width + 0.5 - 1e-7) / ratio)
        most -= round(most * ratio) > width
    most = min(most, height)
    least = min(round(math.sqrt(least_area / ratio)), most)
    crop_height = random.randint(least, most)
    crop_width = round(crop_height * ratio)
    if crop_height * crop_width < least_area:
        crop_height += 1
        crop_width = round(crop_height * ratio)
    if crop_height * crop_width > most_area:
        crop_height -= 1
        crop_width = round(crop_height * ratio)
    fits = 0 < crop_height <= height and 0 < crop_width <= width
    if not fits or not least_area <= crop_height * crop_width <= most_area:
        return None
    top = random.randrange(height - crop_height) if crop_height < height else 0
    left = random.randrange(width - crop_width) if crop_width < width else 0
    return Box(top, left, crop_height, crop_width)


def resize_bicubic(image: Tensor, size: int) -> Tensor:
    """(C, H, W) float32 -> (C, size, size): ``tf.image.resize_bicubic`` of TensorFlow 1.

    Output pixel i is interpolated at i * side / size from the four pixels around it, the outermost
    repeated beyond the edges; no half-pixel shift, no antialiasing.
    """
    along_height = _interpolation(image.shape[1], size)
    along_width = _interpolation(image.shape[2], size)
    columns = (image[:, :, along_width.pixels] * along_width.weights).sum(-1)  # (C, H, size)
    rows = columns[:, along_height.pixels]  # (C, size, 4, size)
    return (rows * along_height.weights[..., None]).sum(2)


class _Interpolation(NamedTuple):
    pixels: Tensor
    """(size, 4) int64: the pixels that an output is made of."""
    weights: Tensor
    """(size, 4) float32."""


def _interpolation(side: int, size: int) -> _Interpolation:
    places = torch.arange(size, dtype=torch.float32) * (side / size)
    whole = places.floor()
    part = ((places - whole) * STEPS).round() / STEPS
    pixels = whole.long()[:, None] + torch.arange(-1, 3)
    distances = torch.stack([1 + part, part, 1 - part, 2 - part], dim=1)
    return _Interpolation(pixels.clamp_(0, side - 1), _kernel(distances))


def _kernel(distance: Tensor) -> Tensor:
    """The cubic convolution kernel of Keys 1981 at distances from 0 to 2."""
    a, d = CUBIC, distance
    near = ((a + 2) * d - (a + 3)) * d.square() + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, far)
