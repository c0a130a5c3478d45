"""Methods that say which concepts a layer holds: the atlas of CRP and its reference crops."""
