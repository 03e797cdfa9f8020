"""What a law is, and the laws that come with the package."""
