"""Whether this host is fit for jobs, and what to do where it is not.

Each module looks at one part of the host and yields findings; `examine` asks all of them.
"""
