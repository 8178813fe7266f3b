"""The files of a container that lives: paths inside, copies in and out. Nothing here is loaded by a launch."""
