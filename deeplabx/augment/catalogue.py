"""Which transforms of albumentations 2.0.8 a config may name, which it may not and why, and what is never
taken from it. A test compares the names with the library's.
"""

ALLOWED = frozenset(
    (
        "AdditiveNoise", "AdvancedBlur", "Affine", "AutoContrast", "Blur", "CLAHE", "CenterCrop",
        "ChannelDropout", "ChannelShuffle", "CoarseDropout", "ColorJitter",
        "ConstrainedCoarseDropout", "Crop", "CropAndPad", "CropNonEmptyMaskIfExists", "D4",
        "Defocus", "ElasticTransform", "Equalize", "Erasing", "FancyPCA", "GaussNoise",
        "GaussianBlur", "GridDistortion", "GridDropout", "GridElasticDeform", "HEStain",
        "HorizontalFlip", "HueSaturationValue", "ISONoise", "Illumination", "ImageCompression",
        "InvertImg", "LongestMaxSize", "MaskDropout", "MedianBlur", "MotionBlur",
        "MultiplicativeNoise", "NoOp", "OpticalDistortion", "Pad", "PadIfNeeded", "Perspective",
        "PiecewiseAffine", "PixelDropout", "PlanckianJitter", "PlasmaBrightnessContrast",
        "PlasmaShadow", "Posterize", "RGBShift", "RandomBrightnessContrast", "RandomCrop",
        "RandomCropFromBorders", "RandomFog", "RandomGamma", "RandomGravel", "RandomGridShuffle",
        "RandomRain", "RandomResizedCrop", "RandomRotate90", "RandomScale", "RandomShadow",
        "RandomSizedCrop", "RandomSnow", "RandomSunFlare", "RandomToneCurve", "Resize",
        "RingingOvershoot", "Rotate", "SafeRotate", "SaltAndPepper", "Sharpen", "ShiftScaleRotate",
        "ShotNoise", "SmallestMaxSize", "Solarize", "Spatter", "SquareSymmetry", "Superpixels",
        "ThinPlateSpline", "ToGray", "ToSepia", "Transpose", "UnsharpMask", "VerticalFlip",
        "XYMasking",
    )
)  # fmt: skip

OTHER_IMAGES = "it needs other images, and a config names no files"
BOXES = "it needs bounding boxes, and there are only images and labels"
NOT_UINT8 = "it changes the type of the image; the network normalises its images itself"
SPECTROGRAMS = "it is for spectrograms and fills labels with class 0; use XYMasking or HorizontalFlip"
MOVES = "it moves what the image shows, but not its label"
REFUSED = {
    "FDA": OTHER_IMAGES,
    "HistogramMatching": OTHER_IMAGES,
    "PixelDistributionAdaptation": OTHER_IMAGES,
    "Mosaic": f"{OTHER_IMAGES}; augment.mix=cutmix uses those of the batch",
    "OverlayElements": OTHER_IMAGES,
    "TextImage": "it reads a font file and needs texts",
    "Lambda": "it calls functions, and a config holds none",
    "AtLeastOneBBoxRandomCrop": BOXES,
    "BBoxSafeRandomCrop": BOXES,
    "RandomCropNearBBox": BOXES,
    "RandomSizedBBoxSafeCrop": BOXES,
    "Normalize": NOT_UINT8,
    "ToFloat": NOT_UINT8,
    "FromFloat": NOT_UINT8,
    "ToRGB": "it changes the number of channels, which the data set states",
    "Morphological": "it grows or shrinks labels by the order of their numbers",
    "ChromaticAberration": f"{MOVES}: red and blue by up to 2 % of the image",
    "Downscale": f"{MOVES}: by up to one pixel of the small image",
    "Emboss": f"{MOVES}: by about one pixel",
    "GlassBlur": f"{MOVES}: single pixels by up to max_delta, all by half a pixel",
    "ZoomBlur": f"{MOVES}: away from the middle",
    "FrequencyMasking": SPECTROGRAMS,
    "TimeMasking": SPECTROGRAMS,
    "TimeReverse": SPECTROGRAMS,
}

# Compositions, with the arguments that each takes beside its transforms.
COMPOSITIONS = {
    "OneOf": ("p",),
    "SomeOf": ("n", "replace", "p"),
    "RandomOrder": ("n", "replace", "p"),
    "Sequential": ("p",),
}

# Arguments that are never taken from a config, and why.
LABELS_NEAREST = "labels are always resized by nearest"
NO_ARGUMENT = {
    "mask_interpolation": LABELS_NEAREST,
    "mask": "it is a function or an array",
    "mask_params": "it belongs to a function",
    "bbox_labels": BOXES,
    "keypoint_remapping_method": "there are no keypoints",
}

# What labels need, always set: a blur that moves the image would leave its label behind.
ALWAYS = {"MotionBlur": {"allow_shifted": False, "direction_range": (0.0, 0.0)}}

# Transforms that resize: OpenCV's plain nearest is half a pixel off the image on average, its exact nearest
# is not. The others warp and take the plain one only, which rounds to the nearest pixel there.
EXACT_NEAREST = frozenset(
    (
        "CropAndPad", "LongestMaxSize", "RandomResizedCrop", "RandomScale", "RandomSizedCrop",
        "Resize", "SmallestMaxSize",
    )
)  # fmt: skip

MOST_NUMBER = 10_000.0  # of any argument: larger sizes would fill the memory
MOST = {"scale_limit": 10.0, "scale": 10.0, "percent": 10.0, "temperature_limit": 100_000.0}
