"""Build saved networks as a stranger does, without this package and without timm where it is not needed.

python building.py RESULT.json [FOLDER ...]
"""

import json
import sys

sys.modules.update({name: None for name in ("seg_models", "seg_runs", "data_scripts")})  # importing these must fail

import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForSemanticSegmentation  # noqa: E402

result, *folders = sys.argv[1:]
found = {}
for folder in folders:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    with torch.device("meta"):
        model = AutoModelForSemanticSegmentation.from_config(config, trust_remote_code=True)
    config.save_pretrained(f"{folder}/again")
    found[folder] = {
        "shapes": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        "module": type(model).__module__.partition(".")[0],
        "timm": "timm" in sys.modules,
    }
with open(result, "w") as file:
    json.dump(found, file)
