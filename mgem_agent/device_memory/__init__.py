"""The memory of an accelerator, shared by a language model and an image generator.

One arbiter of the process knows what each loaded model needs. It keeps all of them on the device where they fit, and
moves or unloads the idle one where they do not.
"""
