"""What a container's network is to its caller. No launch without such an option loads it."""
