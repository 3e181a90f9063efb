"""Tables: items, how they are chosen, how fast they flow, and the store they live in."""
