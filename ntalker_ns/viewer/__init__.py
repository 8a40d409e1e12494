"""The panel "Talking head" in nerfstudio's viewer, and the view that a browser starts with."""
