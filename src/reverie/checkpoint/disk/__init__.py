"""Bytes on disk: every system call, checksums, `.npy` headers, strict JSON."""
