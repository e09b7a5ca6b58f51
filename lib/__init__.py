"""Palimpsest: the small library that the notebooks stand on. Rooms, from the ground up: core, world, bench, backbones,
editors, learning, metrics and stats, claims, stages and studio; each imports only from those before it."""
