"""Files of poses and cameras of other programs; `formats` lists them."""
