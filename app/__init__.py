"""The demo page: a Gradio app that is also the Space. Installed as `ct_xception_app`."""
