"""The ledger: what the papers claim, how each claim is tested, and what the evidence says."""
