"""Plan and image to figures, PDF and the plan folder; computes no physics."""
