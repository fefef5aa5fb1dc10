"""YOLOv3 (Redmon & Farhadi 2018): network, anchors, targets, loss and decoding."""
