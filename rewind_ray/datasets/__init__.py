"""Named data sets and folders of images, as uint8 tensors in memory, and batches of them.

Follow the data: ``catalog`` names and loads, ``split`` chooses the images of each part,
``image_set`` packs them onto the device, ``batches`` yields them. What is exported here needs
no torch until something is loaded.
"""

from rewind_ray.datasets.catalog import (
    DATASETS,
    DatasetInfo,
    ImageData,
    describe,
    is_streamed,
    load,
    resolve,
)

__all__ = ["DATASETS", "DatasetInfo", "ImageData", "describe", "is_streamed", "load", "resolve"]
