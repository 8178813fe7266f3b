"""pyminicon in others' hands: a module a framework, each an extra of that name, which imports its framework only."""
