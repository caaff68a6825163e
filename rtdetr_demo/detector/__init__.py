"""From pictures to predictions: the network, what runs it, and its device's lock.

Knows nothing of HTTP, of Gradio, or of where a checkpoint comes from.
"""
