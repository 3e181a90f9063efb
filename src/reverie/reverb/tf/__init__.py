"""The parts of Reverb's API that live in TensorFlow: datasets and `TFClient`.

Each module imports TensorFlow; nothing else of the API does.
"""
