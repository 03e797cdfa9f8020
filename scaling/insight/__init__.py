"""Looking into finished runs: what their activations tell, what their heads attend to, and what an output rests on."""
