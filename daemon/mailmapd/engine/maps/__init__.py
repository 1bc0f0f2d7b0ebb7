"""Maps: what one parameter of Postfix asks."""
