"""The importers, each with the networks that the commands build."""

from functools import partial

from deeplabx.run.build import meta_network
from deeplabx.weights import (
    efficientnet_lite,
    google,
    kazuto1011,
    keras,
    mmsegmentation,
    timm,
    torchvision,
    vainf,
)

google_deeplabv3_mobilenetv2 = partial(google.google_deeplabv3_mobilenetv2, build=meta_network)
kazuto1011_deeplab = partial(kazuto1011.kazuto1011_deeplab, build=meta_network)
keras_resnet50 = partial(keras.keras_resnet50, build=meta_network)
ml_illustrated_efficientnet_lite0 = partial(
    efficientnet_lite.ml_illustrated_efficientnet_lite0, build=meta_network
)
mmsegmentation_classification = partial(mmsegmentation.mmsegmentation_classification, build=meta_network)
mmsegmentation_deeplab = partial(mmsegmentation.mmsegmentation_deeplab, build=meta_network)
timm_classification = partial(timm.timm_classification, build=meta_network)
torchvision_classification = partial(torchvision.torchvision_classification, build=meta_network)
torchvision_segmentation = partial(torchvision.torchvision_segmentation, build=meta_network)
vainf_deeplab = partial(vainf.vainf_deeplab, build=meta_network)
