"""The parts that data plays, by the names that commands, dumps and the column `split` of the tables have for them."""

TRAINING, HELD_OUT, OUTSIDE = SPLITS = ("train", "test", "ood")
"""What the network was trained on, more of the same, or data of none of its classes."""

IMPLIED = ("", TRAINING)
"""The splits that need not be named: none, as of a linear map or a claim, and the one that is meant of all others."""
