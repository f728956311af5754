if __name__ != "dcompile.dsl":  # a second name would make a second copy of every class
    raise ImportError("import dcompile.dsl: one module has one name")
