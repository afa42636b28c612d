"""Tools of other people's Python code, in a process of their own.

loading   which tools a folder or a package has
wire      what the two processes say to each other
child     the process that has the code
parent    the side that calls: it starts the child, and starts it again when it dies
"""
