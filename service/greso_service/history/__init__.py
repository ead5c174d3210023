"""Where the events of runs live: the protocol (`base`), its stores (`redis`, `memory`) and the bytes (`codec`)."""
