"""Which of several models BIC picks on a stream."""
