"""Feature networks that others have trained: InceptionV3 and DINOv2."""
