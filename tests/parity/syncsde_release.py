"""The released loops of sync-SDE and FlowEdit, restated from their description in the released codes' own terms.

Plain and literal, for comparison alone; `velocity(x, sigma, which)` is the model, `which` "source" or "target".
Steps are counted as there: sync-SDE's schedule runs sigma_0 = 1 ... sigma_N = 0, FlowEdit counts its steps downwards.
"""

import numpy as np


def brownian_midpoint(sigmas, z):
    """The path B_0 ... B_{N-1} from draws z_0 ... z_{N-1}: the integrand 2 s / (1 - s)^3 at the middle of each step."""
    steps = len(sigmas) - 1
    path, b = [None] * steps, np.zeros_like(z[0])
    for i in range(steps - 1, -1, -1):
        delta, mid = sigmas[i] - sigmas[i + 1], (sigmas[i] + sigmas[i + 1]) / 2
        b = b + z[i] * np.sqrt(2 * mid * delta) / (1 - mid) ** 1.5
        path[i] = b
    return path


def sync_sde(velocity, x0, sigmas, z, starting_index):
    """sync-SDE for FLUX.1: the drift of both sides written with g^2 times the score, Euler steps of the difference."""
    path = brownian_midpoint(sigmas, z)
    diff = np.zeros_like(x0)
    for i in range(starting_index, len(sigmas) - 1):
        sigma, delta = sigmas[i], sigmas[i] - sigmas[i + 1]
        source = (1 - sigma) * (x0 + path[i])
        target = source + diff
        drift = {}
        for which, x in (("source", source), ("target", target)):
            g2score = -2 * velocity(x, sigma, which) - 2 * x / (1 - sigma)
            drift[which] = g2score + x / (1 - sigma)
        diff = diff + (drift["target"] - drift["source"]) * delta
    return x0 + diff


def flowedit(velocity, x_src, sigmas, n, n_max):
    """FlowEdit with n_min = 0, n_avg = 1: the last n_max of the schedule's T steps, fresh noise n[i] at step i."""
    zt_edit = x_src.copy()
    steps = len(sigmas) - 1
    for i in range(steps):
        if steps - i > n_max:
            continue
        t_i, t_im1 = sigmas[i], sigmas[i + 1]
        zt_src = (1 - t_i) * x_src + t_i * n[i]
        zt_tar = zt_edit + zt_src - x_src
        v_delta = velocity(zt_tar, t_i, "target") - velocity(zt_src, t_i, "source")
        zt_edit = zt_edit + (t_im1 - t_i) * v_delta
    return zt_edit
