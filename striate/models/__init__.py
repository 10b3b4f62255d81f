"""Named networks: functions (num_classes, in_channels, ...) -> module.

Constructors and `state_dict` keys are torchvision's where it has the network; docs/models.md says
whose they are elsewhere.
"""

from collections.abc import Callable

from striate.models.convnext import (
    ConvNeXt as ConvNeXt,
    convnext_base as convnext_base,
    convnext_small as convnext_small,
    convnext_tiny as convnext_tiny,
)
from striate.models.densenet import (
    DenseNet as DenseNet,
    densenet121 as densenet121,
    densenet169 as densenet169,
    densenet201 as densenet201,
)
from striate.models.efficientnet import (
    EfficientNet as EfficientNet,
    efficientnet_b0 as efficientnet_b0,
    efficientnet_b1 as efficientnet_b1,
    efficientnet_b2 as efficientnet_b2,
    efficientnet_b3 as efficientnet_b3,
    efficientnet_b4 as efficientnet_b4,
    efficientnet_b5 as efficientnet_b5,
    efficientnet_b6 as efficientnet_b6,
    efficientnet_b7 as efficientnet_b7,
)
from striate.models.googlenet import (
    GoogLeNet as GoogLeNet,
    GoogLeNetOutputs as GoogLeNetOutputs,
    googlenet as googlenet,
)
from striate.models.lenet import (
    LeNet as LeNet,
    lenet as lenet,
)
from striate.models.mobilenet_v2 import (
    MobileNetV2 as MobileNetV2,
    mobilenet_v2 as mobilenet_v2,
)
from striate.models.mobilenet_v3 import (
    MobileNetV3 as MobileNetV3,
    mobilenet_v3_large as mobilenet_v3_large,
    mobilenet_v3_small as mobilenet_v3_small,
)
from striate.models.regnet import (
    RegNet as RegNet,
    regnet_y_1_6gf as regnet_y_1_6gf,
    regnet_y_3_2gf as regnet_y_3_2gf,
    regnet_y_8gf as regnet_y_8gf,
    regnet_y_16gf as regnet_y_16gf,
    regnet_y_400mf as regnet_y_400mf,
    regnet_y_800mf as regnet_y_800mf,
)
from striate.models.resnet import (
    ResNet as ResNet,
    resnet18 as resnet18,
    resnet34 as resnet34,
    resnet50 as resnet50,
    resnet101 as resnet101,
    resnet152 as resnet152,
    resnext50_32x4d as resnext50_32x4d,
    resnext101_32x8d as resnext101_32x8d,
    wide_resnet50_2 as wide_resnet50_2,
    wide_resnet101_2 as wide_resnet101_2,
)
from striate.models.resnet3d import (
    VideoResNet as VideoResNet,
    mc3_18 as mc3_18,
    r2plus1d_18 as r2plus1d_18,
    r3d_18 as r3d_18,
)
from striate.models.resnet_cifar import (
    CifarResNet as CifarResNet,
    resnet20 as resnet20,
    resnet32 as resnet32,
    resnet44 as resnet44,
    resnet56 as resnet56,
    resnet110 as resnet110,
)
from striate.models.restoration import (
    ESPCN as ESPCN,
    DnCNN as DnCNN,
    dncnn as dncnn,
    espcn as espcn,
)
from striate.models.shufflenet_v2 import (
    ShuffleNetV2 as ShuffleNetV2,
    shufflenet_v2_x0_5 as shufflenet_v2_x0_5,
    shufflenet_v2_x1_0 as shufflenet_v2_x1_0,
    shufflenet_v2_x1_5 as shufflenet_v2_x1_5,
    shufflenet_v2_x2_0 as shufflenet_v2_x2_0,
)
from striate.models.small import (
    small as small,
)
from striate.models.squeezenet import (
    SqueezeNet as SqueezeNet,
    squeezenet1_1 as squeezenet1_1,
)
from striate.models.tcn import (
    TCN as TCN,
    tcn as tcn,
)
from striate.models.unet import (
    UNet as UNet,
    unet2d as unet2d,
    unet3d as unet3d,
)
from striate.models.vgg import (
    VGG as VGG,
    vgg11 as vgg11,
    vgg11_bn as vgg11_bn,
    vgg13 as vgg13,
    vgg13_bn as vgg13_bn,
    vgg16 as vgg16,
    vgg16_bn as vgg16_bn,
    vgg19 as vgg19,
    vgg19_bn as vgg19_bn,
)
from striate.models.wavenet import (
    WaveNet as WaveNet,
    wavenet as wavenet,
)
from striate.nn import Module

_CONSTRUCTORS: tuple[Callable[..., Module], ...] = (
    convnext_tiny,
    convnext_small,
    convnext_base,
    densenet121,
    densenet169,
    densenet201,
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
    googlenet,
    lenet,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
    regnet_y_400mf,
    regnet_y_800mf,
    regnet_y_1_6gf,
    regnet_y_3_2gf,
    regnet_y_8gf,
    regnet_y_16gf,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    resnext101_32x8d,
    wide_resnet50_2,
    wide_resnet101_2,
    r3d_18,
    mc3_18,
    r2plus1d_18,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
    dncnn,
    espcn,
    shufflenet_v2_x0_5,
    shufflenet_v2_x1_0,
    shufflenet_v2_x1_5,
    shufflenet_v2_x2_0,
    small,
    squeezenet1_1,
    tcn,
    unet2d,
    unet3d,
    vgg11,
    vgg11_bn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg19,
    vgg19_bn,
    wavenet,
)
MODELS: dict[str, Callable[..., Module]] = {make.__name__: make for make in _CONSTRUCTORS}
