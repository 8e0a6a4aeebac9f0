"""vaelab: variational auto-encoders, one likelihood or many. Equations after Kingma & Welling (2014), in nats."""
