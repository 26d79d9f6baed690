"""Losses: small modules on logits or features, with their shapes stated."""
