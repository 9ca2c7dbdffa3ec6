"""The artifact store: folders named by their content, and the formats of the files in them."""
