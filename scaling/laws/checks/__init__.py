"""What a fit cannot know: warnings about the data, the parameters and the residuals."""
