"""Evidence in e-values: bets on bounded means, likelihood ratios, calendar cases, fixed-point wealth."""
