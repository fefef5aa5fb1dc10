"""The workload `detection`: finding objects of known classes in images."""
