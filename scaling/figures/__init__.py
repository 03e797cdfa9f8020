"""How anything here is drawn and worded: words, colours, axes, SVG."""
