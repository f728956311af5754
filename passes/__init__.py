if __name__ != "dcompile.passes":  # a second name would make a second copy of every class
    raise ImportError("import dcompile.passes: one module has one name")
