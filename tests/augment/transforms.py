"""Arguments with which each allowed transform of albumentations is tried: those that it needs, and for some
stronger ones than its defaults, so that a wrong label would show.
"""

from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {
    "Affine": {"scale": [0.7, 1.5], "rotate": [-45, 45], "shear": [-15, 15]},
    "CenterCrop": {"height": 64, "width": 64},
    "ConstrainedCoarseDropout": {"mask_indices": [1]},
    "Crop": {"x_min": 5, "x_max": 100, "y_max": 90},
    "CropAndPad": {"px": [-12, 12]},
    "CropNonEmptyMaskIfExists": {"height": 64, "width": 64},
    "ElasticTransform": {"alpha": 80, "sigma": 8},
    "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 8},
    "LongestMaxSize": {"max_size": 150},
    "Pad": {"padding": 8},
    "PixelDropout": {"mask_drop_value": None},
    "RandomCrop": {"height": 64, "width": 64},
    "RandomFog": {"fog_coef_range": [0.3, 0.4]},
    "RandomResizedCrop": {"size": [90, 90]},
    "RandomScale": {"scale_limit": [-0.5, 1.0]},
    "RandomSizedCrop": {"min_max_height": [50, 90], "size": [64, 64]},
    "RandomSunFlare": {"src_radius": 20},
    "Resize": {"height": 80, "width": 120},
    "Rotate": {"limit": [-90, 90]},
    "SmallestMaxSize": {"max_size": 150},
    "XYMasking": {"num_masks_x": 1, "num_masks_y": 1, "mask_x_length": 10, "mask_y_length": 10},
}


def described(name: str) -> dict[str, Any]:
    """A transform that is always applied, as a config describes it."""
    return {"name": name, **ARGUMENTS.get(name, {}), "p": 1.0}
