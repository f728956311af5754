if __name__ != "dcompile.backends":  # a second name would make a second copy of every class
    raise ImportError("import dcompile.backends: one module has one name")
