"""Drawing that several stages share: masks and maps over images, HTML from templates."""
