"""Networks, norms, losses and the predictor: every function of tensors. Nothing here opens a file of a data set.

`models.build_model` builds them by name, and `import seg_models.models` lets transformers load saved ones.
"""
