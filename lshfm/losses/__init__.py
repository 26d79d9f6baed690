"""What is minimised: small modules with their shapes stated."""
