"""Networks, norms, losses and the predictor: what computes with tensors. Nothing here opens a file of a data set.

`models.build_model` builds networks by name, and `import seg_models.models` lets transformers load saved ones.
"""
