"""The browser demo: what `app_gradio.py` is made of."""
