"""Names that flags and configurations choose from. Plain data, so that `--help` lists them without loading torch."""

NORMS = ("batch", "instance", "group", "evo", "evo_b0")
LOSSES = ("ce", "weighted_ce", "class_balanced", "focal", "ohem", "boundary")
LOSSES += ("lovasz", "dice", "tversky", "focal_tversky")  # of overlaps between regions
DISTILL = ("cwd", "kl")  # how a network learns from teachers; the first is the default
AVERAGES = ("probabilities", "logits")
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)  # scales of `--mst`
SMALLEST_WINDOW = 64  # sides of a sliding window, in pixels
OVERLAP = 0.25  # of neighbouring windows, as a share of the window
MODEL_TYPE, SEGFORMER_TYPE = "minicity_seg", "minicity_segformer"
OWN_TYPES = (MODEL_TYPE, SEGFORMER_TYPE)  # model types that save their code with the weights
