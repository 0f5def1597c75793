"""The models that `--model` lists, with their parts and their training defaults. Plain data, without torch.

`--model` also takes names of the form DECODER_ENCODER, such as unet_convnext_tiny. `models.find_model` resolves names.
"""

from dataclasses import dataclass, replace

OUTPUT_STRIDES = (8, 16)  # choices of the flags
CLASS_WEIGHTS = ("challenge", "enet", "class_balanced")


@dataclass(frozen=True)
class TrainingDefaults:
    """Training settings of a model, used where no flag is given.

    warmup       share of the steps with linear warm-up
    head_factor  factor on the learning rate of the heads
    aux_weight   weight of the auxiliary losses
    """

    optimizer: str
    learning_rate: float
    weight_decay: float
    lr_scheduler_type: str
    momentum: float = 0.9
    warmup: float = 0.0
    head_factor: float = 1.0
    aux_weight: float = 0.0


@dataclass(frozen=True)
class Model:
    """An entry of `MODELS`: fields of the configuration, and training defaults."""

    config: dict
    training: TrainingDefaults


SGD = TrainingDefaults("sgd", learning_rate=1e-2, weight_decay=1e-4, lr_scheduler_type="cosine")
# The paper weights the logits by 0.7, the coarse logits by 0.6, and the second head by 0.4. Here the logits have weight
# 1, and one weight serves the other two.
ACFNET = replace(SGD, aux_weight=0.6)
ADAMW = TrainingDefaults("adamw", learning_rate=1e-3, weight_decay=5e-2, lr_scheduler_type="poly")
# Section 4.1 of the paper. Two settings differ: the paper decays with power 1.0 (here 0.9), and its code warms up for
# 1,500 of 160,000 steps (here 5 %).
SEGFORMER = TrainingDefaults(
    "adamw", learning_rate=6e-5, weight_decay=1e-2, lr_scheduler_type="poly", warmup=0.05, head_factor=10.0
)

# Widths, blocks per stage, and width of the head, from tables 1 and 6 of the paper.
B0 = {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256}
B1 = {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256}
B2 = {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768}
B3, B4, B5 = ({**B2, "depths": depths} for depths in ([3, 4, 18, 3], [3, 8, 27, 3], [3, 6, 40, 3]))
VARIANTS = {"b0": B0, "b1": B1, "b2": B2, "b3": B3, "b4": B4, "b5": B5}

MODELS = {
    "deeplabv3_resnet50": Model({"encoder": "resnet50", "decoder": "deeplabv3", "output_stride": 8}, SGD),
    "deeplabv3_resnet101": Model({"encoder": "resnet101", "decoder": "deeplabv3", "output_stride": 8}, SGD),
    **{
        f"{decoder}_{encoder}": Model({"encoder": encoder, "decoder": decoder, "output_stride": stride}, SGD)
        for decoder, stride in (("deeplabv3plus", 16), ("pspnet", 8), ("unet", 32))
        for encoder in ("resnet18", "resnet50", "resnet101")
    },
    "deeplabv3plus_resnest50": Model({"encoder": "resnest50d", "decoder": "deeplabv3plus", "output_stride": 16}, SGD),
    "fcn_resnet50": Model({"encoder": "resnet50", "decoder": "fcn", "output_stride": 8}, SGD),
    "acfnet_resnet50": Model({"encoder": "resnet50", "decoder": "acfnet", "output_stride": 8}, ACFNET),
    "acfnet_resnet101": Model({"encoder": "resnet101", "decoder": "acfnet", "output_stride": 8}, ACFNET),
    "hrnet_w18": Model({"encoder": "hrnet_w18", "decoder": "hrnet", "output_stride": 32}, SGD),
    "unet": Model({"encoder": "unet", "decoder": "unet", "output_stride": 16}, SGD),
    "attention_unet": Model({"encoder": "unet", "decoder": "attention_unet", "output_stride": 16}, SGD),
    "encdec_maxunpool": Model({"encoder": "maxpool", "decoder": "maxunpool", "output_stride": 32}, SGD),
    "streetnet": Model({"encoder": "streetnet", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    "streetnet_fine": Model({"encoder": "streetnet_fine", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    "streetnet_large": Model({"encoder": "streetnet_large", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    **{f"segformer_{name}": Model(variant, SEGFORMER) for name, variant in VARIANTS.items()},
    "segformer_swin_tiny": Model({"encoder": "swin_tiny", "decoder": "segformer", "output_stride": 32}, SEGFORMER),
}


def decoders_of_any_encoder() -> list[str]:
    """Return the decoders that work with other encoders too: not that of HRNets, nor those with parts of their own."""
    decoders = {model.config.get("decoder") for model in MODELS.values()}
    return sorted(decoders - {None, "hrnet", "maxunpool", "streetnet"})
