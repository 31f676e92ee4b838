"""How a score comes to be believed: records, signing, Merkle trees, evidence, trust. Pure: no I/O, no clock."""
