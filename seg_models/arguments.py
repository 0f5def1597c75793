"""The flags of the network, of its loss, and of how a trained network looks at an image.

Field metadata are plain facts, which `seg_runs.parsing` reads; its docstring lists them.
"""

from dataclasses import dataclass
from typing import ClassVar

from transformers.hf_argparser import HfArg

from .catalog import CLASS_WEIGHTS, MODELS, OUTPUT_STRIDES, decoders_of_any_encoder
from .errors import ModelError
from .names import AVERAGES, LOSSES, MULTI_SCALE, NORMS

SIZE = {"least": 1, "length": 2, "takes": "a height and a width", "metavar": "N"}
ONLY_BATCH = {"needs": {"norm": ("batch",)}}


@dataclass(frozen=True)
class NetworkOptions:
    """What is trained, and the weights that it starts from."""

    _argument_group_name: ClassVar[str] = "Network"

    model: str = HfArg(
        default="deeplabv3_resnet50",
        help=f"{', '.join(MODELS)}; or one of {', '.join(decoders_of_any_encoder())} with an encoder: resnet18, 34, "
        "50, 101 or one of timm's, as unet_convnext_tiny",
    )
    encoder: str | None = HfArg(
        default=None,
        help="instead of the model's own: any of timm's that gives feature maps, as convnext_tiny",
        metadata={"added": True},
    )
    norm: str = HfArg(default="batch", help="of every layer (SegFormer: of the head)", metadata={"choices": NORMS})
    output_stride: int | None = HfArg(
        default=None,
        help="the encoder's, by dilation, in training; by default the model's",
        metadata={"choices": OUTPUT_STRIDES, "added": True},
    )
    eval_output_stride: int | None = HfArg(
        default=None,
        help="in validation and in the saved model; by default as in training",
        metadata={"choices": OUTPUT_STRIDES, "added": True},
    )
    test_size: list[int] | None = HfArg(
        default=None,
        help="height and width that images are validated at; their own if not given",
        metadata={**SIZE},
    )
    pretrained_encoder: str | None = HfArg(
        default=None,
        help="weights that the encoder starts from: a file or folder, a name of timm's (resnet50.a1_in1k) or "
        "torchvision's (ResNet50_Weights.IMAGENET1K_V2), or a hub id (nvidia/mit-b0); none if not given",
        metadata={"added": True},
    )
    init_from: str | None = HfArg(
        default=None,
        help="weights that the whole network starts from, as far as they fit: a run folder, a saved model, a "
        ".safetensors or .pth file, or a hub id, with @REVISION if need be; none if not given",
        metadata={"added": True},
    )
    sync_bn: bool = HfArg(default=False, help="batch norm over the images of all GPUs", metadata={**ONLY_BATCH})
    freeze_bn: bool = HfArg(
        default=False,
        help="with --init_from or --pretrained_encoder: the encoder's batch norms keep statistics, weights and biases",
        metadata={**ONLY_BATCH, "needs_one_of": ("init_from", "pretrained_encoder"), "added": True},
    )
    gradient_checkpointing: bool = HfArg(
        default=False,
        help="compute each block again for its backward pass: less memory, more time, the same numbers",
        metadata={"added": True},
    )

    def __post_init__(self):
        if self.init_from and self.pretrained_encoder:
            raise ModelError(
                "--init_from and --pretrained_encoder exclude each other: a network comes with its encoder"
            )
        if self.sync_bn and self.freeze_bn:
            raise ModelError("--sync_bn and --freeze_bn exclude each other: frozen norms have nothing to synchronise")


@dataclass(frozen=True)
class LossOptions:
    """What is minimised."""

    _argument_group_name: ClassVar[str] = "Loss"

    loss: str = HfArg(default="ce", help="ce is cross entropy", metadata={"choices": LOSSES})
    class_weights: str | None = HfArg(
        default=None,
        help="the MiniCity challenge's, for Cityscapes classes (challenge), or from the training pixels of each class "
        "(enet); by default challenge where it applies",
        metadata={"choices": CLASS_WEIGHTS, "needs": {"loss": ("weighted_ce",)}},
    )
    class_weights_constant: float = HfArg(
        default=1.02,
        help="c in 1 / ln(c + share of the pixels), larger is gentler",
        metadata={"needs": {"class_weights": ("enet",)}, "above": 1, "added": True},
    )
    focal_gamma: float = HfArg(
        default=2.0, help="of the focal loss", metadata={"needs": {"loss": ("focal",)}, "least": 0}
    )
    aux_weight: float | None = HfArg(
        default=None,
        help="weight of the loss of an auxiliary head, for example 0.4; by default the model's, none for most",
        metadata={"least": 0},
    )


@dataclass(frozen=True)
class ViewOptions:
    """How a trained network looks at an image."""

    _argument_group_name: ClassVar[str] = "Views"

    test_size: list[int] | None = HfArg(
        default=None,
        help="height and width that images are predicted at; as in validation if not given",
        metadata={**SIZE},
    )
    mst: bool = HfArg(default=False, help=f"average over scales {' '.join(map(str, MULTI_SCALE))} and flips")
    scales: list[float] | None = HfArg(
        default=None, help="average over these scales, and flips, instead", metadata={"above": 0, "metavar": "X"}
    )
    flip: bool = HfArg(
        default=True,
        help="with --mst or --scales, predict mirrored images too",
        metadata={"negated": "with --mst or --scales, do not predict mirrored images"},
    )
    average: str = HfArg(
        default="probabilities", help="what is averaged of several views", metadata={"choices": AVERAGES}
    )
    eval_output_stride: int | None = HfArg(
        default=None, help="instead of the model's own", metadata={"choices": OUTPUT_STRIDES}
    )

    def __post_init__(self):
        if self.mst and self.scales:
            raise ModelError("--mst and --scales exclude each other: the usual scales, or these")
        if not (self.mst or self.scales) and (not self.flip or self.average == "logits"):
            given = "--average logits" if self.flip else "--no_flip"
            raise ModelError(f"{given} is for several views: give --mst or --scales")
