"""What the scripts share. Besides them, only this package and programs for `python -m` use several rooms."""
