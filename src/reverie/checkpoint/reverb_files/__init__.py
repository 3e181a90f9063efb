"""Reads the checkpoints of dm-reverb with neither Reverb nor TensorFlow installed.

`finding` finds them in a checkpointer's folder and `source.reverb_source` reads one. It
needs the `reverb-files` extra (cramjam, google-crc32c, protobuf), which is imported
when it is first needed.
"""
