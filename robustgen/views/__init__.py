"""Views: variations of a projected image, and of an image itself."""
