"""Load models as a stranger does, without this package, and save logits, masks and names of each.

python loading.py IMAGE PIXELS.pt RESULT.pt [MODEL ...]
"""

import sys

sys.modules.update({name: None for name in ("seg_models", "seg_runs", "data_scripts")})  # importing these must fail

import torch  # noqa: E402
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline  # noqa: E402

image, pixels, result, *names = sys.argv[1:]
found = {}
for name in names:
    own = "segformer" not in name
    trust = {"trust_remote_code": True} if own else {}
    if own:
        try:
            AutoModelForSemanticSegmentation.from_pretrained(name, trust_remote_code=False)
        except ValueError as error:
            assert "custom code" in str(error)
        else:
            raise AssertionError("code of others ran unasked")
    model = AutoModelForSemanticSegmentation.from_pretrained(name, **trust).eval()
    with torch.no_grad():
        logits = model(torch.load(pixels, weights_only=True)).logits
        assert torch.equal(model(torch.load(pixels, weights_only=True), return_dict=False)[0], logits)
    masks = pipeline("image-segmentation", model=name, **trust)(image)
    found[name] = {
        "logits": logits,
        "weights": model.state_dict(),
        "masks": {mask["label"]: torch.tensor(list(mask["mask"].tobytes()), dtype=torch.uint8) for mask in masks},
        "model_type": AutoConfig.from_pretrained(name, **trust).model_type,
        "module": type(model).__module__.split(".")[0],
        "processor": type(AutoImageProcessor.from_pretrained(name)).__name__,
    }
torch.save(found, result)
