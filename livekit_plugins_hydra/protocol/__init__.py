"""Hydra's protocol and all decisions of a call, without any I/O.

`README.md` beside this file shows the message sequences and the tables. Read `states`, then
`conversation` (one connection), then `call` (what outlives it).
"""
