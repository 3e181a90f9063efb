"""Reverb's gRPC service: this process's tables for clients of other processes."""
