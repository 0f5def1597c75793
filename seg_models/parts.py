"""The encoders and decoders that a configuration can name.

A saved network carries a file of this name that lists only its own two (`modeling.save_code`).
"""

from .acfnet import ACFHead
from .deeplabv3 import DeepLabV3Head
from .deeplabv3plus import DeepLabV3PlusHead
from .fcn import FCNDecoder
from .hrnet import HRNetHead
from .maxunpool import MaxUnpoolHead
from .pspnet import PSPNetHead
from .resnet import LAYERS, ResNetEncoder
from .streetnet import SHAPES, StreetNetEncoder, StreetNetHead
from .swin import AllMLPHead, SwinTinyEncoder
from .timm_encoder import TimmEncoder
from .unet import AttentionUNetHead, UNetEncoder, UNetHead

# Our encoders that are not ResNets. Each has one output stride.
OTHER_ENCODERS = {
    **dict.fromkeys(SHAPES, StreetNetEncoder),
    "maxpool": UNetEncoder,
    "swin_tiny": SwinTinyEncoder,
    "unet": UNetEncoder,
}
# Encoders are called with name, norm, and output stride or None. "timm" stands for every name that is not here.
ENCODERS = {
    **dict.fromkeys(LAYERS, ResNetEncoder),
    **OTHER_ENCODERS,
    "timm": TimmEncoder,
}
# Decoders are called with channels and reductions of the encoder's maps, the number of classes, and the norm.
DECODERS = {
    "acfnet": ACFHead,
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "fcn": FCNDecoder,
    "hrnet": HRNetHead,
    "maxunpool": MaxUnpoolHead,
    "pspnet": PSPNetHead,
    "segformer": AllMLPHead,
    "streetnet": StreetNetHead,
    "unet": UNetHead,
    "attention_unet": AttentionUNetHead,
}
