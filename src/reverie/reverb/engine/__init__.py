"""Tables, writers and samplers of this process, over the native core. NumPy only."""
