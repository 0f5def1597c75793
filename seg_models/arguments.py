"""Flags of the network, the loss, and the views that prediction averages over.

`seg_runs.parsing` reads the metadata of each field. Its docstring lists the keys.
"""

from dataclasses import dataclass
from typing import ClassVar

from transformers.hf_argparser import HfArg

from .catalog import CLASS_WEIGHTS, MODELS, OUTPUT_STRIDES, decoders_of_any_encoder
from .errors import ModelError
from .loss_terms import loss_terms
from .names import AVERAGES, DISTILL, LOSSES, MULTI_SCALE, NORMS, OVERLAP, SMALLEST_WINDOW

ONLY_BATCH = {"needs": {"norm": ("batch",)}}  # copied where it is used: HfArg writes into the metadata that it gets
TAKE_WEIGHTS = ("weighted_ce", "ohem")  # losses with --class_weights
ADDED_LOSSES = {"added": "2026-11-26 06:00"}
ADDED_TEACHERS = {"added": "2026-11-26 10:00"}
OF_TEACHERS = {"needs_one_of": ("teacher",), **ADDED_TEACHERS}


@dataclass(frozen=True)
class NetworkOptions:
    """The network to train, and its initial weights."""

    _argument_group_name: ClassVar[str] = "Network"

    model: str = HfArg(
        default="deeplabv3_resnet50",
        help=f"{', '.join(MODELS)}; or DECODER_ENCODER, such as unet_convnext_tiny, where DECODER is one of "
        f"{', '.join(decoders_of_any_encoder())} and ENCODER is resnet18, resnet34, resnet50, resnet101 or a timm "
        "model that returns feature maps",
    )
    encoder: str | None = HfArg(
        default=None,
        help="replace the model's encoder, for example with convnext_tiny or another timm model that returns feature "
        "maps",
        metadata={"added": "2026-11-21 18:12"},
    )
    norm: str = HfArg(
        default="batch",
        help="normalisation of all layers, in SegFormer of the head; evo is EvoNorm-S0 and evo_b0 EvoNorm-B0, which "
        "replace the activation too",
        metadata={"choices": NORMS},
    )
    output_stride: int | None = HfArg(
        default=None,
        help="stride of the encoder's last feature map in training, set by dilation (default: the model's)",
        metadata={"choices": OUTPUT_STRIDES, "added": "2026-11-21 18:12"},
    )
    eval_output_stride: int | None = HfArg(
        default=None,
        help="output stride for validation and in the saved model (default: as in training)",
        metadata={"choices": OUTPUT_STRIDES, "added": "2026-11-21 18:12"},
    )
    test_size: list[int] | None = HfArg(
        default=None,
        help="resize images to this height and width for validation (default: do not resize)",
        metadata={"kind": "size"},
    )
    pretrained_encoder: str | None = HfArg(
        default=None,
        help="initial weights of the encoder: a file, a folder, a hub id (nvidia/mit-b0), or weights of timm "
        "(resnet50.a1_in1k) or torchvision (ResNet50_Weights.IMAGENET1K_V2) (default: random)",
        metadata={"metavar": "WEIGHTS", "added": "2026-11-21 17:55"},
    )
    init_from: str | None = HfArg(
        default=None,
        help="initial weights of the whole network, loaded where they fit: a run folder, a saved model, a "
        ".safetensors or .pth file, or a hub id, optionally with @REVISION (default: random)",
        metadata={"metavar": "WEIGHTS", "added": "2026-11-21 17:55"},
    )
    sync_bn: bool = HfArg(default=False, help="synchronise batch norm across processes", metadata={**ONLY_BATCH})
    freeze_bn: bool = HfArg(
        default=False,
        help="freeze statistics, weights and biases of the batch norm layers that --init_from (encoder and head) or "
        "--pretrained_encoder loads",
        metadata={**ONLY_BATCH, "needs_one_of": ("init_from", "pretrained_encoder"), "added": "2026-11-21 18:12"},
    )
    gradient_checkpointing: bool = HfArg(
        default=False,
        help="save memory by recomputing activations in the backward pass; slower, with the same results",
        metadata={"added": "2026-11-21 18:12"},
    )

    @property
    def start(self) -> str | None:
        """What the initial weights come from; None: they are random."""
        return self.init_from or self.pretrained_encoder

    def __post_init__(self):
        if self.init_from and self.pretrained_encoder:
            raise ModelError("--init_from and --pretrained_encoder exclude each other: a network includes its encoder")
        if self.sync_bn and self.freeze_bn:
            raise ModelError("--sync_bn and --freeze_bn exclude each other: frozen norms have nothing to synchronise")


@dataclass(frozen=True)
class LossOptions:
    """The loss to minimise."""

    _argument_group_name: ClassVar[str] = "Loss"

    loss: str = HfArg(
        default="ce",
        help=f"{', '.join(LOSSES)}; or a sum such as ce+lovasz or 1.0*ce+0.5*dice",
        metadata={"choices": LOSSES, "parts": loss_terms, "metavar": "LOSS"},
    )
    class_weights: str | None = HfArg(
        default=None,
        help="weights of the classes in weighted_ce and ohem. challenge: those of the MiniCity challenge, for "
        "Cityscapes classes, or of classes.yaml. enet, class_balanced: computed from the training labels. Default: "
        "none for ohem; for weighted_ce challenge if there are any, else enet",
        metadata={"choices": CLASS_WEIGHTS, "needs": {"loss": TAKE_WEIGHTS}},
    )
    class_weights_constant: float = HfArg(
        default=1.02,
        help="c in the enet weights, 1 / ln(c + share of pixels); larger values make the weights more alike",
        metadata={"needs": {"class_weights": ("enet",)}, "above": 1, "added": "2026-11-25 21:53"},
    )
    class_balanced_beta: float = HfArg(
        default=0.9,
        help="beta of class_balanced weights: 0 weights all classes equally, values near 1 by the inverse of their "
        "pixels",
        metadata={"needs": {"loss": ("class_balanced", *TAKE_WEIGHTS)}, "least": 0, "below": 1, **ADDED_LOSSES},
    )
    focal_gamma: float = HfArg(
        default=2.0, help="gamma of the focal loss", metadata={"needs": {"loss": ("focal",)}, "least": 0}
    )
    ohem_threshold: float = HfArg(
        default=0.7,
        help="ohem takes the pixels whose label has at most this probability",
        metadata={"needs": {"loss": ("ohem",)}, "above": 0, "most": 1, **ADDED_LOSSES},
    )
    ohem_min_kept: int = HfArg(
        default=100_000,
        help="ohem takes at least this many pixels an image, the hardest ones",
        metadata={"needs": {"loss": ("ohem",)}, "least": 1, **ADDED_LOSSES},
    )
    lovasz_per_image: bool = HfArg(
        default=False,
        help="compute the lovasz loss for each image, not for all images of a process together",
        metadata={"needs": {"loss": ("lovasz",)}, **ADDED_LOSSES},
    )
    label_smoothing: float = HfArg(
        default=0.0,
        help="in ce, weighted_ce and class_balanced, spread this share of the target over all classes, for example 0.1",
        metadata={"needs": {"loss": ("ce", "weighted_ce", "class_balanced")}, "least": 0, "below": 1, **ADDED_LOSSES},
    )
    aux_weight: float | None = HfArg(
        default=None,
        help="weight of the auxiliary loss, for example 0.4 (default: 0.6 for ACFNet, else 0)",
        metadata={"least": 0},
    )

    def __post_init__(self):
        balanced = "class_balanced" in (self.class_weights, *loss_terms(self.loss))
        if not balanced and self.class_balanced_beta != LossOptions.class_balanced_beta:
            raise ModelError("--class_balanced_beta needs --loss class_balanced or --class_weights class_balanced")


@dataclass(frozen=True)
class DistillOptions:
    """Trained networks to learn from, besides the labels."""

    _argument_group_name: ClassVar[str] = "Distillation"

    teacher: list[str] | None = HfArg(
        default=None,
        help="learn from the predictions of these trained models too: run folders, saved models, or hub ids with "
        "optional @REVISION; of several, from their mean (default: labels only)",
        metadata={"metavar": "MODEL", "may_change": True, **ADDED_TEACHERS},
    )
    distill: str = HfArg(
        default=DISTILL[0],
        help="what to match of the teachers: the distribution of each class over the pixels (cwd, channel-wise "
        "distillation), or of each pixel over the classes (kl, Kullback-Leibler divergence)",
        metadata={"choices": DISTILL, **OF_TEACHERS},
    )
    distill_weight: float | None = HfArg(
        default=None,
        help="weight of the distillation beside the loss (default: 3 for cwd, 1 for kl)",
        metadata={"above": 0, **OF_TEACHERS},
    )
    distill_temperature: float | None = HfArg(
        default=None,
        help="divide the logits by this temperature for the distillation (default: 4 for cwd, 1 for kl)",
        metadata={"above": 0, **OF_TEACHERS},
    )


@dataclass(frozen=True)
class ViewOptions:
    """How a trained network sees an image."""

    _argument_group_name: ClassVar[str] = "Views"

    test_size: list[int] | None = HfArg(
        default=None,
        help="resize images to this height and width for the network (default: as in validation)",
        metadata={"kind": "size"},
    )
    mst: bool = HfArg(default=False, help=f"average over scales {' '.join(map(str, MULTI_SCALE))} and flipped images")
    scales: list[float] | None = HfArg(
        default=None,
        help="average over these scales and flipped images",
        metadata={"least": 0.1, "most": 10, "metavar": "X"},
    )
    flip: bool = HfArg(
        default=True,
        help="with --mst or --scales, also predict horizontally flipped images",
        metadata={
            "negated": "with --mst or --scales, do not predict flipped images",
            "needs_one_of": ("mst", "scales"),
        },
    )
    average: str = HfArg(
        default="probabilities",
        help="average probabilities or logits over several views",
        metadata={"choices": AVERAGES, "needs_one_of": ("mst", "scales")},
    )
    window: list[int] | None = HfArg(
        default=None,
        help="cut images into overlapping windows of this height and width, predict each like an image, and blend "
        "them; for images too large for the memory (default: predict images whole)",
        metadata={"kind": "size"},
    )
    window_overlap: float = HfArg(
        default=OVERLAP,
        help="least overlap of neighbouring windows, as a share of the window",
        metadata={"needs_one_of": ("window",), "least": 0, "most": 0.5},
    )
    eval_output_stride: int | None = HfArg(
        default=None, help="output stride of the encoder (default: the model's)", metadata={"choices": OUTPUT_STRIDES}
    )
    crf: bool = HfArg(
        default=False, help="redraw predictions along the edges of the image with a fully connected CRF; slow"
    )

    def __post_init__(self):
        if self.window is not None and min(self.window) < SMALLEST_WINDOW:
            raise ModelError(
                f"--window {self.window[0]} {self.window[1]} is too small: give {SMALLEST_WINDOW} pixels a side or more"
            )
        if self.mst and self.scales:
            raise ModelError("--mst and --scales exclude each other: --mst stands for a fixed list of scales")
