"""Whether the variances are stationary."""
