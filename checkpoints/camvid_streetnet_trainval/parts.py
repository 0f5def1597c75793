"""The parts of this network. In the package, this file lists those of every network."""

from .streetnet import StreetNetEncoder
from .streetnet import StreetNetHead

ENCODERS = {'streetnet_large': StreetNetEncoder}
DECODERS = {'streetnet': StreetNetHead}
