"""Object detection: Faster R-CNN and RetinaNet, which learn from boxes and from a teacher's features."""
