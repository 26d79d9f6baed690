"""Object detectors, composed of torchvision's detection parts; they keep torchvision's names of weights."""
