"""The control socket: by it, commands on the same host speak to a running launcher.

It imports only the standard library and the journal.
"""
