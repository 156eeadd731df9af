"""The data's eigenvalues and the exact linear optimum."""
