"""What a replay buffer shows of itself: items by number, and its face in a notebook."""
