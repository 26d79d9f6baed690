"""How good predictions are: numpy in, plain numbers out."""
