"""Networks: images in, (feature, logits) out; and the weights they start from."""
