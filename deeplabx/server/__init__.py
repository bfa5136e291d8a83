"""A page and a JSON service in front of a model: `deeplabx serve`. Its modules need the extra `serve`."""
