"""Methods that find directions of concepts in a layer, and ask how outputs react to motion along them."""
