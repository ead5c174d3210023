"""An oracle of the algorithm, written from its law alone, and the means to hold the running service against it."""
