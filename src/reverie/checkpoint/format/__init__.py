"""The native format: what stands in the files of one checkpoint."""
