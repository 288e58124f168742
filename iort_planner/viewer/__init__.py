"""Plan and image to a scene (plain data), a window and a picture; the only place that knows pyvista."""
